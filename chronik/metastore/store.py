"""Where backups lie: S3, Google Cloud Storage, Azure Blob Storage or a mounted folder, all by one library.

A store is a flat space of names. An object appears whole or not at all: it is sent in parts, and a run that dies in the
middle leaves no object. Nothing is held in memory beyond a few parts. Reading asks for one range at a time, so a slow
reader does not run into the time limit of one long answer.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from chronik.errors import ChronikError, InputError
from chronik.metastore.errors import (
    BackupError,
    BackupNotFound,
    StoreAccessDenied,
    StoreFull,
    StoreNotFound,
    StoreUnreachable,
    needs,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PART = 16 * 1024 * 1024
"""Bytes of a part. Stores take 10,000 parts, so an object may have 156 GiB."""
PARTS_AT_ONCE = 3
SCHEMES = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///FOLDER"
_KEY_FILE = "key.json"
_ONE_LINE = re.compile(r"[ -~]*")
_BUCKET = re.compile(r"[A-Za-z0-9._:-]*")
_PORT = r"(:([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}))?"
_ENDPOINT = re.compile(rf"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]){_PORT}(/[!-~]*)?")
_REGION = re.compile(r"[A-Za-z0-9_-]+")
_RETRIES = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}

_NO_BUCKET = ("there is no such bucket", "Create it, or correct the address of the store.")
_ENDED_BEFORE = "NoSuchUpload"
_DENIED = (
    "the store refuses the credentials, or they lack a right",
    "It takes the rights to list, read, write and delete objects below the prefix.",
)
_SIGNS: tuple[tuple[tuple[str, ...], type[BackupError], tuple[str, str]], ...] = (
    (
        ("No space left|os error 28|Disk quota exceeded|os error 122", "StorageFull|InsufficientStorage|QuotaExceeded"),
        StoreFull,
        ("the store has no room", "Make room, or forget old backups; chronik backup catalog shows them."),
    ),
    (
        (_ENDED_BEFORE,),
        StoreUnreachable,
        ("the upload was cut off", "Run the same again."),
    ),
    (
        ("NoSuchBucket|ContainerNotFound|bucket does not exist|The specified bucket",),
        StoreNotFound,
        _NO_BUCKET,
    ),
    (
        (
            "InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|AuthenticationFailed|InvalidToken|ExpiredToken",
            "[Pp]ermission denied|403 Forbidden|401 Unauthorized|Unauthenticated|PermissionDenied|os error (13|30)",
        ),
        StoreAccessDenied,
        _DENIED,
    ),
)
"""What the libraries' messages hold, what it means, and what to do."""
_ROLES = r"//169\.254\.|metadata\.google\.internal|token request"
"""Where the libraries look for the role of the machine, once neither Secret nor variables hold credentials."""
_NO_ROLE = (
    "no credentials were given, and this machine has no role in the cloud",
    "Name their folder with --store-credentials, or set the cloud's own variables, such as AWS_ACCESS_KEY_ID.",
)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """How a store is reached. `credentials` is a folder with a file for each key of a mounted Secret."""

    url: str
    endpoint: str = ""
    region: str = ""
    path_style: bool = False
    credentials: Path | None = None
    account: str = ""

    def secret(self, name: str) -> str | None:
        """Return what the mounted Secret says under a key, if it has it.

        Raises:
            InputError: the folder is not there, or the file cannot be read.
        """
        if self.credentials is None:
            return None
        if not self.credentials.is_dir():
            raise InputError("there is no such folder of credentials", subject=str(self.credentials))
        try:
            text = (self.credentials / name).read_text("utf-8").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"it cannot be read: {error}", subject=str(self.credentials / name)) from error
        if name != _KEY_FILE and not _ONE_LINE.fullmatch(text):
            hint = "Put the value into the Secret as it is, without quotes, line breaks or anything else around it."
            raise InputError("it must be one line of ASCII", subject=str(self.credentials / name), hint=hint)
        return text


class Store:
    """A place for backups; names are relative to it."""

    def __init__(self, url: str, backend: Any, folder: Path | None = None) -> None:
        self.url = url.rstrip("/")
        self._backend = backend
        self._folder = folder

    def write(self, name: str, pieces: Iterable[bytes], *, new: bool = False) -> None:
        """Stream an object into the store; it is there when all pieces have been, or not at all.

        Raises:
            FileExistsError: `new`, and an object of that name exists.
            BackupError: the store refuses or does not answer; or the pieces end in this error.
        """
        import obstore  # noqa: PLC0415  # loaded with the backend
        from obstore.exceptions import AlreadyExistsError  # noqa: PLC0415

        source = _Source(pieces)
        try:
            with self._told(name, writing=True):
                if new:
                    obstore.put(self._backend, name, b"".join(source), mode="create", use_multipart=False)
                else:
                    obstore.put(self._backend, name, source, chunk_size=PART, max_concurrency=PARTS_AT_ONCE)
        except BaseException as error:
            if source.failure is not None:
                raise source.failure from None
            if isinstance(error.__cause__, AlreadyExistsError):
                raise FileExistsError(name) from error
            if _ENDED_BEFORE in str(error.__cause__) and self.size(name) == source.bytes:
                return  # the answer to its end was lost, and its end was asked for again
            raise

    def read(self, name: str) -> Iterator[bytes]:
        """Yield an object, a part at a time; the next one is on its way meanwhile.

        Raises:
            BackupNotFound: there is no such object.
            BackupError: the store refuses or does not answer.
        """
        size = self.size(name)
        if size is None:
            raise BackupNotFound("there is no such object", subject=f"{self.url}/{name}")
        with ThreadPoolExecutor(1) as ahead:
            waiting = ahead.submit(self._range, name, 0, size)
            for start in range(0, size, PART):
                piece = waiting.result()
                waiting = ahead.submit(self._range, name, start + PART, size)
                yield piece

    def _range(self, name: str, start: int, size: int) -> bytes:
        import obstore  # noqa: PLC0415

        if start >= size:
            return b""
        with self._told(name):
            return bytes(obstore.get_range(self._backend, name, start=start, end=min(start + PART, size)))

    def size(self, name: str) -> int | None:
        """Return the size of an object in bytes, None if there is none."""
        import obstore  # noqa: PLC0415

        try:
            with self._told(name):
                return int(obstore.head(self._backend, name)["size"])
        except BackupNotFound:
            return None

    def names(self, prefix: str = "") -> dict[str, int]:
        """Return the objects whose names begin with a folder, with their sizes in bytes."""
        import obstore  # noqa: PLC0415

        with self._told(prefix):
            found = [each for page in obstore.list(self._backend, prefix=prefix or None) for each in page]
        return {each["path"]: each["size"] for each in found}

    def folders(self) -> list[str]:
        """Return the names of the folders at the top of the store."""
        import obstore  # noqa: PLC0415

        with self._told(""):
            return sorted(name.strip("/") for name in obstore.list_with_delimiter(self._backend)["common_prefixes"])

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects; those that are gone already are no error."""
        import obstore  # noqa: PLC0415

        for name in names:
            with suppress(BackupNotFound), self._told(name):
                obstore.delete(self._backend, name)

    def unfinished(self) -> dict[str, int]:
        """Return parts of objects that were never finished, with their sizes: a folder shows them, buckets do not."""
        if self._folder is None:
            return {}
        parts = [path for path in self._folder.rglob("*#*") if path.is_file()]
        return {str(path.relative_to(self._folder)): path.stat().st_size for path in parts}

    def drop_unfinished(self, prefix: str) -> int:
        """Remove the unfinished parts below a folder; return how many."""
        mine = [name for name in self.unfinished() if name.startswith(prefix)]
        for name in mine:
            (self._folder or Path()).joinpath(name).unlink(missing_ok=True)
        return len(mine)

    @contextmanager
    def _told(self, name: str, *, writing: bool = False) -> Iterator[None]:
        """Make the library's errors chronik's."""
        try:
            yield
        except ChronikError:
            raise
        except BaseException as error:
            if type(error).__name__ == "PanicException":  # no Exception, so that nobody catches it by accident
                hint = "Check its address, endpoint and region, and that credentials are one line each."
                raise InputError(f"this store cannot be used: {error}", subject=self.url, hint=hint) from None
            if not isinstance(error, Exception):
                raise
            told = _explained(error, f"{self.url}/{name}".rstrip("/"))
            if writing and isinstance(told, BackupNotFound):  # what is written needs nothing but a place
                told = StoreNotFound(_NO_BUCKET[0], subject=self.url, hint=_NO_BUCKET[1])
            raise told from error


class _Source:
    """Pieces on their way into the store; remembers why they ended early, as the library may not say."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self.failure: BaseException | None = None
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            piece = next(self._pieces)
        except StopIteration:
            raise
        except BaseException as error:
            self.failure = error
            raise
        self.bytes += len(piece)
        return piece


def _explained(error: Exception, subject: str) -> BackupError:
    text = str(error)
    words = _in_short(text)
    if re.search(_ROLES, text):
        without = StoreAccessDenied if " 40" in words else StoreUnreachable
        return without(f"{_NO_ROLE[0]}: {words}", subject=subject, hint=_NO_ROLE[1])
    for signs, kind, (meaning, hint) in _SIGNS:
        if re.search("|".join(signs), text):
            return kind(f"{meaning}: {words}", subject=subject, hint=hint)
    if type(error).__name__ in {"NotFoundError", "FileNotFoundError"}:
        return BackupNotFound("there is no such object", subject=subject)
    if type(error).__name__ in {"PermissionDeniedError", "UnauthenticatedError"}:
        return StoreAccessDenied(f"{_DENIED[0]}: {words}", subject=subject, hint=_DENIED[1])
    hint = "Check the address of the store, and that its endpoint is reachable from here."
    return StoreUnreachable(f"the store does not answer as it should: {words}", subject=subject, hint=hint)


def _in_short(text: str) -> str:
    """Return what the store itself said, if it said something, else the first line of the library's message."""
    said = re.search(r"<Message>(.*?)</Message>", text, re.DOTALL)
    code = re.search(r"<Code>(.*?)</Code>", text)
    if said or code:
        return " ".join(each[1] for each in (code, said) if each)
    first = text.partition("\n\nDebug source")[0].strip().splitlines() or [text]
    return " ".join(first)[:300]


def open_store(settings: StoreSettings) -> Store:
    """Return the store at an address; nothing is asked of it yet.

    Raises:
        InputError: the address or the settings cannot be used.
        LibraryMissing: chronik was installed without what backups need.
        StoreNotFound: the folder of a `file://` store is not there; it is not made, as it may be a missing mount.
    """
    parts = urlsplit(settings.url)
    prefix = unquote(parts.path).strip("/")
    if parts.scheme not in {"s3", "gs", "az", "file"} or (parts.scheme != "file" and not parts.netloc):
        raise InputError(f"this is no address of a store: write {SCHEMES}", subject=settings.url or "--store")
    if parts.query or parts.fragment or (parts.scheme == "file" and (parts.netloc or not prefix)):
        raise InputError(f"the address of a store is {SCHEMES}, and nothing more", subject=settings.url)
    _check_words(settings, parts.netloc)
    with needs("obstore"):
        import obstore.store as kinds  # noqa: PLC0415  # 30 ms that only backups pay for

    if parts.scheme == "file":
        return _folder_store(settings.url, Path("/", prefix), kinds)
    common: dict[str, Any] = {"retry_config": _RETRIES, "client_options": _client_options(settings)}
    if prefix:
        common["prefix"] = prefix
    try:
        backend = _MAKERS[parts.scheme](parts.netloc, settings, common, kinds)
    except ChronikError:
        raise
    except Exception as error:
        raise InputError(f"this store cannot be used: {_in_short(str(error))}", subject=settings.url) from error
    return Store(settings.url, backend)


def _check_words(settings: StoreSettings, bucket: str) -> None:
    """Refuse what the library would only find when it makes a request, and then by a panic."""
    if not _BUCKET.fullmatch(bucket):
        hint = "It has letters, digits, - and . alone."
        raise InputError(f"{bucket!r} is no name of a bucket or a container", subject=settings.url, hint=hint)
    if settings.endpoint and not _ENDPOINT.fullmatch(settings.endpoint):
        hint = "Write a URL that begins with http:// or https://, such as https://host:9000."
        raise InputError(f"{settings.endpoint!r} is no address of a server", subject="--store-endpoint", hint=hint)
    if settings.region and not _REGION.fullmatch(settings.region):
        hint = "Write one such as eu-central-1."
        raise InputError(f"{settings.region!r} is no name of a region", subject="--store-region", hint=hint)


def _folder_store(url: str, folder: Path, kinds: Any) -> Store:
    if not folder.is_dir():
        hint = "Create it, or mount the volume there."
        raise StoreNotFound("there is no such folder", subject=url, hint=hint)
    return Store(url, kinds.LocalStore(folder, automatic_cleanup=True), folder)


def _client_options(settings: StoreSettings) -> dict[str, Any]:
    options: dict[str, Any] = {"timeout": timedelta(seconds=120), "connect_timeout": timedelta(seconds=10)}
    if settings.endpoint.startswith("http://"):
        options["allow_http"] = True
    return options


def _s3(bucket: str, settings: StoreSettings, common: dict[str, Any], kinds: Any) -> Any:
    given = {
        "endpoint": settings.endpoint,
        "region": settings.region or "us-east-1",
        "access_key_id": settings.secret("AWS_ACCESS_KEY_ID"),
        "secret_access_key": settings.secret("AWS_SECRET_ACCESS_KEY"),
        "session_token": settings.secret("AWS_SESSION_TOKEN"),
    }
    if settings.credentials and not (given["access_key_id"] and given["secret_access_key"]):
        _misses(settings, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    config = {name: value for name, value in given.items() if value}
    return kinds.S3Store(bucket, virtual_hosted_style_request=not settings.path_style, **config, **common)


def _gcs(bucket: str, settings: StoreSettings, common: dict[str, Any], kinds: Any) -> Any:
    if settings.credentials is None:
        return kinds.GCSStore(bucket, **common)
    if not settings.secret(_KEY_FILE):
        _misses(settings, _KEY_FILE)
    return kinds.GCSStore(bucket, service_account_path=str(settings.credentials / _KEY_FILE), **common)


def _azure(container: str, settings: StoreSettings, common: dict[str, Any], kinds: Any) -> Any:
    given = {
        "account_name": settings.secret("AZURE_STORAGE_ACCOUNT_NAME") or settings.account,
        "account_key": settings.secret("AZURE_STORAGE_KEY"),
        "endpoint": settings.endpoint,
    }
    if settings.credentials and not given["account_key"]:
        _misses(settings, "AZURE_STORAGE_KEY")
    config = {name: value for name, value in given.items() if value}
    return kinds.AzureStore(container, **config, **common)


def _misses(settings: StoreSettings, *names: str) -> None:
    wanted = " and ".join(names)
    hint = "Mount the Secret that holds the store's credentials there."
    raise InputError(f"the folder of credentials has no {wanted}", subject=str(settings.credentials), hint=hint)


_MAKERS = {"s3": _s3, "gs": _gcs, "az": _azure}
