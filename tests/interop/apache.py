"""Apache with mod_oauth2, a resource server of another project, which verifies access tokens and their binding."""

import shutil
import time
from pathlib import Path

import pytest

from tests.interop.programs import Server
from tests.support.client_certificates import Pair
from tests.support.ports import free_port
from tests.support.site import Site

VERSION = "3.3.1"  # of mod_oauth2 in Debian 12
MODULES = Path("/usr/lib/apache2/modules")
# The options of OAuth2TokenVerify, and the scheme of such tokens.
DPOP = "type=dpop&dpop.iat.slack.before=60"
ACCEPTED = "OAuth2AcceptTokenIn header name=authorization&type=DPoP"
# The options for tokens that are bound to a certificate, and how Apache gets it. No authority is checked: the token has
# the thumbprint of the certificate.
MTLS = "type=mtls&mtls.policy=required"
CERTIFICATE = "SSLOptions +StdEnvVars +ExportCertData"
VERIFIED = "SSLVerifyClient optional_no_ca"
LOADED = ("mpm_event", "authn_core", "authz_core", "authz_user", "dir", "mime", "oauth2")
_CONFIGURATION = """
ServerName {host}
ServerRoot {folder}
PidFile {folder}/pid
DefaultRuntimeDir {folder}
Mutex default:{folder} default
ErrorLog /dev/stderr
LogLevel warn oauth2:error
Listen {host}
DocumentRoot {folder}/documents
TypesConfig /dev/null
DirectoryIndex index.txt
StartServers 1
ServerLimit 1
ThreadsPerChild 8
MaxRequestWorkers 8
{modules}
{tls}
{locations}
"""


def require_apache() -> str:
    """Return the path of Apache, or skip the test without it or its module."""
    apache = shutil.which("apache2", path="/usr/sbin:/usr/bin")
    if apache is None or not (MODULES / "mod_oauth2.so").exists():
        pytest.skip("Apache with mod_oauth2 is not installed: apt-get install libapache2-mod-oauth2")
    return apache


class Apache:
    """Apache with one document in each location. `locations` maps a path to its lines of configuration.

    `tls`: the lines for TLS, "" for plain http.
    """

    def __init__(self, folder: Path, locations: dict[str, str], tls: str = ""):
        apache, port = require_apache(), free_port()
        self.host = f"127.0.0.1:{port}"
        for path in locations:
            (folder / "documents" / path).mkdir(parents=True)
            (folder / "documents" / path / "index.txt").write_text(f"The document of {path}.", "utf-8")
        blocks = [
            f"<Location /{path}>\nAuthType oauth2\n{ACCEPTED if DPOP in lines else ''}\n{lines}\n</Location>"
            for path, lines in locations.items()
        ]
        loaded = (*LOADED, "socache_shmcb", "ssl") if tls else LOADED
        modules = [f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in loaded]
        text = _CONFIGURATION.format(
            host=self.host,
            folder=folder,
            modules="\n".join(modules),
            tls=tls,
            locations="\n".join(blocks),
        )
        (folder / "apache.conf").write_text(text, "utf-8")
        arguments = [apache, "-f", str(folder / "apache.conf"), "-DFOREGROUND"]
        self._server = Server(arguments, folder, port, folder / "log")
        self.url, self.log = self._server.url, self._server.log
        if tls:
            self.url = self.url.replace("http://", "https://")

    def close(self) -> None:
        """Stop it."""
        self._server.close()


def tls_lines(folder: Path, server: Pair) -> str:
    """Return the configuration for TLS with a certificate of the server, which asks clients for theirs."""
    file = folder / "server.pem"
    file.write_text(server.key_pem + server.pem, "utf-8")
    return f"SSLEngine on\nSSLCertificateFile {file}\nSSLSessionCache none\n{VERIFIED}"


def use_real_time(site: Site) -> None:
    """Set the clock of a site to the time that Apache has."""
    site.clock.time = int(time.time())
