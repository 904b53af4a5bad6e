"""The Jobs and snapshots of backups: what Kubernetes takes, what the data plane reads, and nothing secret in them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support import kubernetes_schemas

from chronik.backups.manifests import (
    DUMP_COMMAND,
    FORGET_COMMAND,
    RECORD_COMMAND,
    RESTORE_TEST_COMMAND,
    JobOf,
    dump_command,
    job,
    snapshot,
)
from chronik.offline import loading

S3 = {"bucket": "acme-backups", "region": "eu-central-1"}
CREDENTIALS = {"host": "db", "port": 5433, "database": "d", "credentialsSecret": "pg"}
URL = {"existingUrlSecret": "pg-url", "sslMode": "verify-full", "sslRootCertSecret": "pg-ca"}
BACKUP = {"metadata": {"name": "b", "namespace": "n", "uid": "uid-b"}, "spec": {"cluster": "c", "deadline": "1h"}}


def cluster(destination, connection=CREDENTIALS):
    """Return a cluster that is backed up to somewhere."""
    document = {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": "ChronikCluster",
        "metadata": {"name": "c", "namespace": "n"},
        "spec": {
            "storage": {"backend": "local"},
            "metastore": {"connection": connection},
            "backup": {"destination": destination, "volumes": {"snapshotClass": "fast"}},
        },
    }
    found = loading.validator().validate(document)
    assert found.cluster, found.problems
    return found.cluster


def made(destination, connection=CREDENTIALS, command=DUMP_COMMAND):
    """Return a Job, and its environment by name."""
    backup = BACKUP | {"spec": BACKUP["spec"] | {"onDelete": "Delete"}}
    wanted = JobOf(backup, cluster(destination, connection), "b-x", command, "registry.example.com/x:1")
    account, found = job(wanted, loading.template_renderer())
    assert account["metadata"]["name"] == "c-backup"
    for manifest in (account, found):
        kubernetes_schemas.check(manifest)
    (container,) = found["spec"]["template"]["spec"]["containers"]
    return found, {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ({"s3": S3}, {"CHRONIK_STORE": "s3://acme-backups", "CHRONIK_STORE_REGION": "eu-central-1"}),
        (
            {"s3": S3 | {"prefix": "a/b", "endpoint": "https://minio:9000", "credentialsSecret": "k"}},
            {
                "CHRONIK_STORE": "s3://acme-backups/a/b",
                "CHRONIK_STORE_ENDPOINT": "https://minio:9000",
                "CHRONIK_STORE_PATH_STYLE": "true",
                "CHRONIK_STORE_CREDENTIALS": "/etc/chronik/backup",
            },
        ),
        ({"claim": {"name": "backups"}}, {"CHRONIK_STORE": "file:///mnt/backups"}),
        ({"gcs": {"bucket": "acme", "prefix": "a"}}, {"CHRONIK_STORE": "gs://acme/a"}),
        (
            {"azure": {"container": "acme", "account": "acmestore", "credentialsSecret": "k"}},
            {
                "CHRONIK_STORE": "az://acme",
                "AZURE_STORAGE_ACCOUNT_NAME": "acmestore",
                "CHRONIK_STORE_CREDENTIALS": "/etc/chronik/backup",
            },
        ),
    ],
)
def test_stores(destination, expected):
    """The store is a URL, its credentials are a mounted Secret, and a claim is mounted where the URL says."""
    found, environment = made(destination)
    mounts = {
        each["name"]: each["mountPath"] for each in found["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    }

    assert expected.items() <= environment.items()
    assert mounts.get("credentials") == expected.get("CHRONIK_STORE_CREDENTIALS")
    assert ("backups" in mounts) == ("claim" in destination)


def test_the_database():
    """The database is libpq's environment or a URL; passwords come by reference, and certificates as a file."""
    _, environment = made({"s3": S3})
    assert (environment["PGHOST"], environment["PGPORT"], environment["PGDATABASE"]) == ("db", "5433", "d")
    assert environment["PGPASSWORD"] == {"secretKeyRef": {"name": "pg", "key": "password"}}

    found, environment = made({"s3": S3}, URL)
    assert environment["CHRONIK_DATABASE_URL"] == {"secretKeyRef": {"name": "pg-url", "key": "url"}}
    assert (environment["PGSSLMODE"], environment["PGSSLROOTCERT"]) == ("verify-full", "/etc/chronik/metastore/ca.crt")
    assert "pg-ca" in json.dumps(found["spec"]["template"]["spec"]["volumes"])
    assert "PGHOST" not in environment


def test_a_dump_is_forgotten_without_the_database():
    """The Job that removes a dump needs no Secret of the database, which may be gone with the cluster."""
    found, environment = made({"s3": S3}, URL, FORGET_COMMAND)

    assert found["spec"]["template"]["spec"]["containers"][0]["args"] == ["backup", "forget", "--id", "uid-b"]
    assert not [name for name in environment if name.startswith("PG") or "DATABASE" in name]
    assert "pg-" not in json.dumps(found)


def test_the_dump_is_told_which_backup_and_cluster():
    """The backup is known in the store by its uid; an exit code that means no retry ends the Job."""
    found, _ = made({"s3": S3})
    (container,) = found["spec"]["template"]["spec"]["containers"]

    assert container["args"] == ["backup", "metastore", "--id", "uid-b", "--cluster", "n/c"]
    assert found["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2, 8]
    assert found["spec"]["activeDeadlineSeconds"] == 3600
    assert found["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("on_delete", ["Delete", "Keep"])
def test_a_snapshot_belongs_to_its_backup_unless_it_is_to_be_kept(on_delete):
    """A snapshot is owned by its backup, never by the cluster; one that is to be kept is owned by nothing."""
    backup = BACKUP | {"spec": BACKUP["spec"] | {"onDelete": on_delete}}
    volume = {"claim": "data-c-ingest-0", "component": "ingest", "ordinal": 0, "snapshot": "b-ingest-0"}
    found = snapshot(backup, cluster({"s3": S3}), volume, loading.template_renderer())

    assert found["spec"] == {
        "volumeSnapshotClassName": "fast",
        "source": {"persistentVolumeClaimName": "data-c-ingest-0"},
    }
    owners = found["metadata"].get("ownerReferences", [])
    assert [each["kind"] for each in owners] == (["ChronikBackup"] if on_delete == "Delete" else [])
    assert "app.kubernetes.io/managed-by" not in found["metadata"]["labels"], "it would be pruned with its cluster"


def with_backup(**more):
    """Return a Job of a cluster whose `spec.backup` has more in it."""
    found = cluster({"s3": S3})
    section = {**found.spec["backup"], **more}
    return replace(found, spec={**found.spec, "backup": section})


def container_of(found):
    """Return the container of a Job."""
    return found["spec"]["template"]["spec"]["containers"][0]


def test_keys_are_files_of_which_the_first_encrypts():
    """The keys of `spec.backup.encryption` are mounted by name, in their order, whatever the Job does."""
    keyed = with_backup(encryption={"secret": "k", "keys": ["2027.key", "2026.key"]})
    _, found = job(JobOf(BACKUP, keyed, "b-x", RESTORE_TEST_COMMAND, "x"), loading.template_renderer())
    kubernetes_schemas.check(found)
    environment = {each["name"]: each.get("value") for each in container_of(found)["env"]}
    volume = next(each for each in found["spec"]["template"]["spec"]["volumes"] if each["name"] == "key")

    assert environment["CHRONIK_BACKUP_KEY"] == "/etc/chronik/backup-key/2027.key:/etc/chronik/backup-key/2026.key"
    assert [each["key"] for each in volume["secret"]["items"]] == ["2027.key", "2026.key"]
    assert container_of(found)["args"] == ["backup", "verify", "--restore-test", "--id", "uid-b"]
    assert found["spec"]["ttlSecondsAfterFinished"] == 600


def test_an_archived_metastore_is_copied_whole():
    """Where the log is received, the Job copies the server, which is what can be recovered to a moment."""
    archived = with_backup(metastore={"method": "Dump", "image": "x", "archive": {"enabled": True, "interval": "10s"}})

    assert dump_command(archived) == ("backup", "base")
    assert dump_command(cluster({"s3": S3})) == DUMP_COMMAND


def test_the_description_is_a_file_of_the_pod():
    """The text travels in an annotation of the pod, byte for byte, and the command is told the file."""
    text = '{"a":"ü \\"{{ x }}"}'
    _, found = job(JobOf(BACKUP, cluster({"s3": S3}), "b-x", RECORD_COMMAND, "x", text), loading.template_renderer())
    kubernetes_schemas.check(found)
    template = found["spec"]["template"]
    (volume,) = [each for each in template["spec"]["volumes"] if each["name"] == "record"]

    assert template["metadata"]["annotations"] == {"chronik.stream/backup-record": text}
    assert volume["downwardAPI"]["items"][0]["path"] == "backup.json"
    assert container_of(found)["args"][-2:] == ["--describe", "/etc/chronik/record/backup.json"]
