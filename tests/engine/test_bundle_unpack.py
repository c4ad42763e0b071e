"""Archives of strangers: what is unpacked, and what is refused without a trace."""

import gzip
import io
import os
import random
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from archive_helpers import FORMS, member, pack, tar, zipped
from executor_helpers import write_bundle
from modelops_dask import bundle
from modelops_dask.bundle import FetchFailed, unpack

FILE, LINK = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777
WIRE = ("wire.py", b"def wire(e, p, s): ...\n")


@pytest.fixture
def fetched(tmp_path):
    """Fetch an archive of these bytes."""

    def fetch(data: bytes):
        (tmp_path / "archive").write_bytes(data)
        return bundle.fetch(str(tmp_path / "archive"), tmp_path / "cache")

    return fetch


@pytest.fixture
def refused(fetched, tmp_path):
    """Fetch an archive of these bytes, which must fail and leave nothing; what was said."""

    def refuse(data: bytes) -> str:
        with pytest.raises(FetchFailed) as failure:
            fetched(data)
        left = {path.name for path in tmp_path.rglob("*")} - {"archive", "cache", "new"}
        assert left == set(), "something was left behind"
        return str(failure.value)

    return refuse


@pytest.fixture
def source(tmp_path_factory):
    folder = write_bundle(
        tmp_path_factory.mktemp("made") / "source",
        {"wire.py": "x = 1\n", "data/é.csv": "1\n", "run.sh": "#!"},
    )
    (folder / "run.sh").chmod(0o755)
    (folder / "data" / "link").symlink_to("../wire.py")
    return folder


@pytest.mark.parametrize("top", ["", ".", "sir-1.0"], ids=["flat", "dot", "in a folder"])
@pytest.mark.parametrize("form", FORMS)
def test_an_archive_is_the_same_bundle_as_its_folder(fetched, source, form, top):
    found = fetched(pack(source, form, top))
    assert found.digest == bundle.digest(source) == bundle.digest(found.path)
    assert os.access(found.path / "run.sh", os.X_OK)
    assert (found.path / "data" / "link").readlink() == Path("../wire.py")


def test_a_link_out_of_the_one_folder_is_refused(refused):
    """It stays in the archive, not in the bundle."""
    data = tar([member("sir/wire.py"), member("sir/l", type=tarfile.SYMTYPE, linkname="..")])
    assert refused(data).endswith(
        "archive: l: the link points outside the bundle; replace it with a copy of its target"
    )


def test_what_a_mac_adds_to_a_zip_file_does_not_count(fetched, source):
    (source.parent / "__MACOSX").mkdir()
    (source.parent / "__MACOSX" / "._source").write_bytes(b"x")
    assert fetched(pack(source.parent, "zip")).digest == bundle.digest(source)


def test_a_hard_link_is_another_copy(fetched):
    found = fetched(tar([member(*WIRE), member("again.py", type=tarfile.LNKTYPE, linkname="./wire.py")]))
    assert (found.path / "again.py").read_bytes() == WIRE[1]
    assert (found.path / "again.py").stat().st_nlink == 1


HOSTILE_TARS = {
    "absolute": ([member("/etc/evil", b"x")], "'/etc/evil': a path that points outside the bundle"),
    "dots": ([member("a/../../evil", b"x")], "a path that points outside the bundle"),
    "dots at the end": ([member("a/..", b"x")], "a path that points outside the bundle"),
    "backslash": ([member("..\\evil", b"x")], "a backslash or control character"),
    "control character": ([member("a\x1b[2J", b"x")], "a backslash or control character"),
    "not UTF-8": ([member("a\udcff", b"x")], "not UTF-8"),
    "no name": ([member("./", b"x")], "without a name"),
    "long name": ([member("a/" * 400 + "b", b"x")], "more than 512 characters"),
    "link out": ([member("l", type=tarfile.SYMTYPE, linkname="../up")], "'l': a link that points outside"),
    "absolute link": (
        [member("l", type=tarfile.SYMTYPE, linkname="/etc/passwd")],
        "'l': a link that points outside",
    ),
    "link out by a link": (
        [
            member("d/e/up", type=tarfile.SYMTYPE, linkname=".."),
            member("l", type=tarfile.SYMTYPE, linkname="d/e/up/../.."),
        ],
        "'l': a link that points outside",
    ),
    "write through a link": (
        [member("d", type=tarfile.SYMTYPE, linkname="e"), member("d/evil", b"x")],
        "'d' appears twice",
    ),
    "link over a folder": (
        [member("d/a", b"x"), member("d", type=tarfile.SYMTYPE, linkname=".")],
        "'d' appears twice",
    ),
    "hard link out": ([member("l", type=tarfile.LNKTYPE, linkname="/etc/passwd")], "outside the bundle"),
    "hard link to nothing": (
        [member("l", type=tarfile.LNKTYPE, linkname="no")],
        "'no', which is not an earlier file",
    ),
    "hard link to a link": (
        [
            member("s", type=tarfile.SYMTYPE, linkname="a"),
            member("l", type=tarfile.LNKTYPE, linkname="s"),
        ],
        "'s', which is not an earlier file",
    ),
    "hard link to itself": (
        [member("l", type=tarfile.LNKTYPE, linkname="l")],
        "'l', which is not an earlier file",
    ),
    "pipe": ([member("p", type=tarfile.FIFOTYPE)], "'p': not a file, folder or link"),
    "device": ([member("d", type=tarfile.CHRTYPE, devmajor=1, devminor=5)], "not a file, folder or link"),
    "block device": ([member("d", type=tarfile.BLKTYPE)], "not a file, folder or link"),
    "unknown kind": ([member("d", type=b"Z")], "not a file, folder or link"),
    "twice": ([member(*WIRE), member("./wire.py", b"evil")], "'wire.py' appears twice"),
    "case": ([member(*WIRE), member("Wire.py", b"evil")], "the same name on some file systems"),
    "case of a folder": ([member("a/x", b""), member("A/y", b"")], "the same name on some file systems"),
    "two ways to write é": (
        [member("\u00e9", b""), member("e\u0301", b"")],
        "the same name on some file systems",
    ),
    "file as folder": ([member("a", b""), member("a/b", b"")], "'a' appears twice"),
}


@pytest.mark.parametrize(("members", "said"), HOSTILE_TARS.values(), ids=HOSTILE_TARS.keys())
def test_hostile_tar_files_are_refused(refused, members, said):
    data = tar([member("first/ok.txt", b"ok"), *members])
    assert said in refused(data)
    assert said in refused(gzip.compress(data))


HOSTILE_ZIPS = {
    "absolute": ([("/etc/evil", b"x", FILE)], "outside the bundle"),
    "dots": ([("../evil", b"x", FILE)], "outside the bundle"),
    "backslash": ([("..\\evil", b"x", FILE)], "a backslash or control character"),
    "a name that ends early": ([("wire.py\0.txt", b"x", FILE)], "a backslash or control character"),
    "link out": ([("l", b"../up", LINK)], "'l': a link that points outside"),
    "absolute link": ([("l", b"/etc/passwd", LINK)], "'l': a link that points outside"),
    "write through a link": ([("d", b"..", LINK), ("d/evil", b"x", FILE)], "'d' appears twice"),
    "pipe": ([("p", b"", stat.S_IFIFO | 0o644)], "'p': not a file, folder or link"),
    "device": ([("d", b"", stat.S_IFCHR | 0o644)], "not a file, folder or link"),
    "case": ([("wire.py", b"", FILE), ("WIRE.py", b"", FILE)], "the same name on some file systems"),
}


@pytest.mark.parametrize(("entries", "said"), HOSTILE_ZIPS.values(), ids=HOSTILE_ZIPS.keys())
def test_hostile_zip_files_are_refused(refused, entries, said):
    assert said in refused(zipped([("first/ok.txt", b"ok", FILE), *entries]))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_file_with_a_name_twice_is_refused(refused):
    assert "'wire.py' appears twice" in refused(zipped([(*WIRE, FILE), ("wire.py", b"evil", FILE)]))


def test_an_encrypted_zip_file_is_refused(refused):
    data = bytearray(zipped([(*WIRE, FILE)]))
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(header) + flags] |= 1
    assert "encrypted" in refused(bytes(data))


def test_a_zip_file_packed_by_lzma_is_refused(refused):
    """Its header chooses how much memory unpacking takes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_LZMA) as packed:
        packed.writestr(*WIRE)
    assert "write the zip with deflate" in refused(stream.getvalue())


@pytest.mark.parametrize("form", FORMS)
def test_what_is_cut_off_is_refused(refused, source, form):
    """At every few bytes: also between two entries, where tarfile sees nothing wrong."""
    data = pack(source, form)
    whole = len(data.rstrip(b"\0") if form == "tar" else data)  # a tar file ends in many zeros
    for end in {*range(0, whole, max(1, whole // 40)), *range(512, whole, 512)}:
        said = refused(data[:end])
        assert "archive" in said, f"cut at {end} of {len(data)}: {said}"


def test_damage_between_two_entries_is_no_end(refused):
    data = bytearray(tar([member(*WIRE), member("b.txt", b"b")]))
    data[1024 + 148] ^= 1  # the checksum of the second header
    assert "its end is missing at byte 1,024" in refused(bytes(data))


def test_what_is_no_archive_is_refused(refused):
    assert "the archive is incomplete" in refused(b"hello\n" * 1000)
    assert "the archive is incomplete" in refused(b"")
    assert "the archive is incomplete" in refused(b"PK\x03\x04" + bytes(100))


@pytest.mark.parametrize("form", FORMS)
def test_no_more_bytes_are_written_than_allowed(refused, monkeypatch, tmp_path_factory, form):
    """A megabyte of zeros in a kilobyte."""
    monkeypatch.setattr(unpack, "MAX_BYTES", 500_000)
    monkeypatch.setattr(unpack, "MAX_FILES", 10)
    bomb = tmp_path_factory.mktemp("bomb")
    for number in range(4):
        (bomb / f"{number}.bin").write_bytes(bytes(260_000))
    assert "more than 500,000 bytes when unpacked" in refused(pack(bomb, form))


def test_sizes_in_headers_are_not_believed(refused, monkeypatch):
    monkeypatch.setattr(unpack, "MAX_BYTES", 500_000)
    data = bytearray(zipped([("zeros", bytes(1_000_000), FILE)]))
    small = (10).to_bytes(4, "little")
    start, central = data.index(b"PK\x03\x04"), data.index(b"PK\x01\x02")
    data[start + 22 : start + 26] = data[central + 24 : central + 28] = small
    assert "archive" in refused(bytes(data))
    info, _ = member("sparse", b"")
    info.size = 8 * 1024**3  # a tar file that says 8 GiB, of 1.5 KiB
    assert "archive" in refused(info.tobuf() + bytes(1024))
    links = [member(f"l{n}", type=tarfile.LNKTYPE, linkname="big") for n in range(20)]
    assert "more than 500,000 bytes" in refused(tar([member("big", bytes(100_000)), *links]))


def test_no_more_names_than_allowed(refused, monkeypatch):
    monkeypatch.setattr(unpack, "MAX_FILES", 50)
    many = "more than 50 files and folders"
    assert many in refused(tar(member(f"{number}", b"") for number in range(51)))
    assert many in refused(tar(member(f"{number}/", type=tarfile.DIRTYPE) for number in range(51)))
    assert many in refused(tar([member("a/" * 60 + "b", b"")]))
    assert many in refused(zipped((f"{number}", b"", FILE) for number in range(51)))


def test_a_header_does_not_fill_the_memory(refused, monkeypatch):
    """A long name of 100 MB in 100 kB; tarfile would read it whole."""
    monkeypatch.setattr(unpack, "MAX_HEADER_BYTES", 1024**2)
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
        info, data = member("././@LongLink", b"a" * 2 * 1024**2, type=kind)
        assert "a header of more than 1,048,576 bytes" in refused(gzip.compress(tar([(info, data)])))


def test_a_link_that_leads_to_itself_harms_nobody(fetched, tmp_path):
    found = fetched(tar([member(*WIRE), member("loop", type=tarfile.SYMTYPE, linkname="loop")]))
    assert (found.path / "loop").is_symlink()
    assert bundle.fetch(found.digest, tmp_path / "cache") == found


def test_a_link_that_leaves_and_comes_back_by_name_is_refused(source, tmp_path):
    """In a folder, where the folder's own name can be guessed; in the cache it has another."""
    (source / "x" / "y").mkdir(parents=True)
    (source / "x" / "y" / "d").symlink_to("..")
    (source / "x" / "y" / "l").symlink_to("d/../../source/wire.py")
    with pytest.raises(bundle.tree.BadInput, match="the link points outside the bundle"):
        bundle.fetch(str(source), tmp_path / "cache")


def test_noise_never_harms(fetched, tmp_path, source):
    """Good archives with random damage: a bundle or FetchFailed, nothing else, and nothing outside."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    goods = [pack(source, form) for form in FORMS]
    goods += [tar(members) for members, _ in HOSTILE_TARS.values()]
    outcomes = {True: 0, False: 0}
    for _ in range(200):
        data = bytearray(chance.choice(goods))
        for _ in range(chance.choice([1, 2, 8, 64])):
            action, place = chance.random(), chance.randrange(max(1, len(data)))
            if action < 0.6 and data:
                data[place] = chance.randrange(256)
            elif action < 0.8:
                data[place:place] = chance.randbytes(chance.randrange(1, 40))
            else:
                del data[place : place + chance.randrange(1, 600)]
        try:
            found = fetched(bytes(data))
        except FetchFailed:
            outcomes[False] += 1
        else:
            outcomes[True] += 1
            assert bundle.digest(found.path) == found.digest
        assert {path.name for path in tmp_path.iterdir()} == {"archive", "cache"}
        assert list((tmp_path / "cache" / "new").iterdir()) == []
    assert outcomes[False] > 20, "the damage did no harm"
