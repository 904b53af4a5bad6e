from __future__ import annotations

import base64
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("cryptography")

from chronik.errors import InputError
from chronik.metastore.encryption import Key, choose_key, decrypt, encrypt, read_key
from chronik.metastore.errors import BackupDamaged, EncryptionKeyWrong

KEY = Key(bytes(range(32)))
NAME = "b1/metastore.dump"
CHUNK, SEALED, HEADER = 65_536, 65_552, 40
SIZES = st.sampled_from([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 7])


def sealed(size: int) -> bytes:
    """Return an encrypted object of a size."""
    return b"".join(encrypt([bytes(number % 251 for number in range(size))], KEY, NAME))


def opened(text: bytes, key: Key = KEY, name: str = NAME) -> bytes:
    """Return what an object decrypts to."""
    return b"".join(decrypt([text], key, name))


@given(size=SIZES, written=st.integers(1, 200_000), read=st.integers(1, 200_000))
def test_what_was_encrypted_comes_back(size, written, read):
    """Any stream comes back as it was, in whatever pieces it is written and read."""
    plain = bytes(number % 251 for number in range(size))
    text = b"".join(encrypt((plain[at : at + written] for at in range(0, size, written)), KEY, NAME))
    back = decrypt((text[at : at + read] for at in range(0, len(text), read)), KEY, NAME)

    assert b"".join(back) == plain
    assert len(text) == HEADER + size + 16 * max(1, -(-size // CHUNK))


WHOLE = sealed(3 * CHUNK + 7)
CHUNKS = [WHOLE[HEADER + at * SEALED : HEADER + (at + 1) * SEALED] for at in range(4)]


@pytest.mark.parametrize(
    "damaged",
    [
        WHOLE[:20],
        WHOLE[:HEADER],
        WHOLE[: HEADER + SEALED],
        WHOLE[: HEADER + 3 * SEALED],
        WHOLE[:-1],
        WHOLE + b"x",
        WHOLE + CHUNKS[3],
        WHOLE[:HEADER] + CHUNKS[1] + CHUNKS[0] + CHUNKS[2] + CHUNKS[3],
        WHOLE[:HEADER] + CHUNKS[0] + CHUNKS[0] + CHUNKS[2] + CHUNKS[3],
        WHOLE[:HEADER] + CHUNKS[0] + CHUNKS[2] + CHUNKS[3],
        WHOLE[:100] + bytes([WHOLE[100] ^ 1]) + WHOLE[101:],
        WHOLE[:10] + bytes([WHOLE[10] ^ 1]) + WHOLE[11:],
        b"PGDMP" + WHOLE[5:],
    ],
    ids=[
        *(
            "no-header",
            "header-only",
            "cut-after-a-chunk",
            "last-chunk-gone",
            "a-byte-short",
            "a-byte-more",
            "added-to",
        ),
        *("reordered", "repeated", "left-out", "a-bit-changed", "salt-changed", "another-format"),
    ],
)
def test_damage_is_noticed(damaged):
    """An object that was cut, changed, reordered or added to is refused."""
    with pytest.raises(BackupDamaged):
        opened(damaged)


def test_an_object_in_place_of_another_is_noticed():
    """An object does not decrypt under the name of another."""
    with pytest.raises(BackupDamaged):
        opened(sealed(10), name="b2/metastore.dump")


def test_two_objects_share_no_key_stream():
    """The same text is encrypted to something else each time."""
    assert sealed(10)[HEADER:] != sealed(10)[HEADER:]


def test_the_documented_lines_decrypt(tmp_path):
    """The lines of Python in docs/backup.md decrypt an object without chronik, and refuse one that was cut."""
    page = (Path(__file__).parents[2] / "docs" / "backup.md").read_text("utf-8")
    (lines,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "key").write_text(KEY.secret.hex())
    command = [sys.executable, "-c", lines, str(tmp_path / "key"), NAME]
    whole = subprocess.run(command, input=sealed(2 * CHUNK + 5), capture_output=True, check=False)
    cut = subprocess.run(command, input=sealed(2 * CHUNK + 5)[:-30], capture_output=True, check=False)

    assert whole.stdout == bytes(number % 251 for number in range(2 * CHUNK + 5)), whole.stderr
    assert cut.returncode != 0


def test_the_key_that_is_missing_is_named():
    """A backup whose key was not given is an error with the ids of both."""
    other = Key(bytes(32))

    assert choose_key([other, KEY], KEY.id, "b1") is KEY
    with pytest.raises(EncryptionKeyWrong, match=f"{KEY.id}.*{other.id}"):
        choose_key([other], KEY.id, "b1")
    with pytest.raises(EncryptionKeyWrong, match="no key was given"):
        choose_key([], KEY.id, "b1")


@pytest.mark.parametrize(
    "text", [KEY.secret.hex().encode(), KEY.secret.hex().encode() + b"\n", base64.b64encode(KEY.secret), KEY.secret]
)
def test_forms_of_keys(tmp_path, text):
    """A key may be hexadecimal, base64 or raw."""
    (tmp_path / "key").write_bytes(text)

    assert read_key(tmp_path / "key") == KEY


@pytest.mark.parametrize("text", [b"", b"secret", b"ab" * 31, b"\xff" * 33])
def test_what_is_no_key(tmp_path, text):
    """A file that holds no key of 32 bytes is refused, and how to make one is said."""
    (tmp_path / "key").write_bytes(text)

    with pytest.raises(InputError, match="openssl rand -hex 32"):
        read_key(tmp_path / "key")


def test_a_key_is_not_shown():
    """The text of a key's object does not have the key."""
    assert KEY.secret.hex() not in repr(KEY)
    assert "secret" not in repr(KEY)
