"""The software bill of materials of the zip, in CycloneDX 1.6: its libraries with their licenses and hashes."""

import hashlib
import zipfile
from collections.abc import Iterable
from email import message_from_string
from email.message import Message
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

from chalicelib import __version__

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

# The field License contains the name of a license, or its whole text.
_LONGEST_LICENSE_NAME = 64


def bill_of_materials(wheels: Iterable[Path], sha256: str) -> str:
    """Return the document, as JSON, of a zip with this SHA-256 that contains chalice and these wheels."""
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    application = Component(
        name="signet",
        version=__version__,
        type=ComponentType.APPLICATION,
        bom_ref="signet",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
    )
    # The part of chalice that runs in Lambda is copied from this environment, not from a wheel.
    libraries = [_library(distribution("chalice").read_text("METADATA") or "")]
    libraries += [_library(_metadata(wheel), wheel) for wheel in wheels]
    bom = Bom(metadata=BomMetaData(component=application), components=libraries)
    bom.register_dependency(application, libraries)
    return JsonV1Dot6(bom).output_as_string(indent=1)


def _library(metadata: str, wheel: Path | None = None) -> "Component":
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    message = message_from_string(metadata)
    purl = PackageURL("pypi", name=message["Name"], version=message["Version"])
    name = _license(message)
    digest = wheel and hashlib.sha256(wheel.read_bytes()).hexdigest()
    return Component(
        name=message["Name"],
        version=message["Version"],
        type=ComponentType.LIBRARY,
        bom_ref=str(purl),
        purl=purl,
        licenses=[LicenseFactory().make_from_string(name)] if name else [],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)] if digest else [],
    )


def _metadata(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return archive.read(name).decode()


def _license(message: Message) -> str:
    """Return the SPDX expression or the name of a license, or an empty text when the metadata have neither."""
    name = str(message["License-Expression"] or message["License"] or "")
    if name and "\n" not in name and len(name) <= _LONGEST_LICENSE_NAME:
        return name
    classifiers = [text for text in message.get_all("Classifier", []) if text.startswith("License ::")]
    return classifiers[0].rpartition(":: ")[2] if classifiers else ""
