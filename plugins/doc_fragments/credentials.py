"""Documents the options of modules with the service's credentials, defined in service/credential_files.py."""

from __future__ import annotations


class ModuleDocFragment:
    """The service's credentials."""

    DOCUMENTATION = r"""
options:
  tokens:
    description: The tokens, as the filter C(katago.fleet.hashed_tokens) returns them; name, scopes, sha256.
    type: list
    elements: dict
    required: true
  session_key:
    description: The key that signs the ids of sessions, or several, one a line; empty for the host's own.
    type: str
    default: ""
  shared_cache_password:
    description:
      - The password of the shared cache, for C(<directory>/shared-cache.password), which the service's group
        may read. Empty for none; an existing file is left for a rollback.
    type: str
    default: ""
  shared_cache_ca:
    description:
      - The certificates that may sign the certificate of the shared cache, in PEM, for C(shared-cache.crt)
        beside the directory. Empty for none.
    type: str
    default: ""
  certificate:
    description: The service's certificate with its chain, in PEM; empty without TLS.
    type: str
    default: ""
  key:
    description: The certificate's key, in PEM.
    type: str
    default: ""
  directory:
    description: The directory of credentials on the host.
    type: path
    default: /etc/katago-mcp/credentials
  group:
    description: The service's group. It must exist, except in check mode.
    type: str
    default: katago-mcp
"""
