"""Small packages made by hand: a wheel, a source archive, a Debian package, a SWORD module, an R data file."""

import io
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest


@pytest.fixture
def wheel(tmp_path: Path) -> Callable[..., Path]:
    """A wheel that pip takes for the real one."""

    def make(name: str, version: str, files: Mapping[str, bytes], folder: Path = tmp_path) -> Path:
        stem = f"{name.replace('-', '_')}-{version}"
        folder.mkdir(exist_ok=True)
        path = folder / f"{stem}-py3-none-any.whl"
        about = {
            "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            "WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": "",
        }
        with zipfile.ZipFile(path, "w") as archive:
            for file, content in files.items():
                archive.writestr(file, content)
            for file, text in about.items():
                archive.writestr(f"{stem}.dist-info/{file}", text)
        return path

    return make


@pytest.fixture
def debian(tmp_path: Path) -> Callable[..., Path]:
    """A Debian package: an `ar` archive of two tar archives."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb")

    def make(name: str, version: str, files: Mapping[str, bytes], folder: Path = tmp_path) -> Path:
        control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody\nDescription: none\n"
        members = {
            "debian-binary": b"2.0\n",
            "control.tar.gz": tar({"./control": control.encode()}),
            "data.tar.gz": tar({f"./{file}": content for file, content in files.items()}),
        }
        content = b"!<arch>\n"
        for file, data in members.items():
            content += f"{file:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
            content += data + b"\n" * (len(data) % 2)
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}_{version}_all.deb"
        path.write_bytes(content)
        return path

    return make


def tar(files: Mapping[str, bytes]) -> bytes:
    """A tar archive, packed with gzip."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def source_archive(tmp_path: Path) -> Callable[..., Path]:
    """A .tar.gz as pip downloads it."""

    def make(name: str, files: Mapping[str, bytes]) -> Path:
        path = tmp_path / f"{name}.tar.gz"
        path.write_bytes(tar(files))
        return path

    return make


@pytest.fixture
def sword() -> Callable[..., dict[str, bytes]]:
    """The two files of one testament of a SWORD module."""

    def make(blocks: Sequence[str], testament: str = "ot", kind: str = "b") -> dict[str, bytes]:
        index, content = b"", b""
        for block in blocks:
            packed = zlib.compress(block.encode())
            index += struct.pack("<III", len(content), len(packed), len(block.encode()))
            content += packed
        return {f"module/{testament}.{kind}zs": index, f"module/{testament}.{kind}zz": content}

    return make


@pytest.fixture
def r_data() -> Callable[..., bytes]:
    """An .rdb file: a stream of strings for each list of lines."""

    def make(*novels: Sequence[str]) -> bytes:
        content = b""
        for lines in novels:
            stream = (
                b"X\n" + struct.pack(">IIII", 3, 0x040201, 0x030500, 5) + b"UTF-8" + struct.pack(">II", 16, len(lines))
            )
            for line in lines:
                flags = 0x00040009 if line.isascii() else 0x00008009
                stream += struct.pack(">II", flags, len(line.encode())) + line.encode()
            content += struct.pack(">I", len(stream)) + zlib.compress(stream)
        return content

    return make
