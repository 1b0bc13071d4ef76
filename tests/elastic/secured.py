"""A node with security on, for tests of who may do what."""

import base64
import hashlib

import pytest

from tests.parts import elastic_folder
from tests.parts.elastic_folder import ElasticFolder
from tests.parts.elasticsearch import ElasticsearchNode

ADMIN, PASSWORD = "administrator", "for-tests-only"
# Who gives no name may only ask whether the node is well. Everybody else may that too.
SECURITY = """\
xpack.security.enabled: true
xpack.security.authc.anonymous.username: whoever
xpack.security.authc.anonymous.roles: onlooker
action.auto_create_index: "headrace-*,.*"
"""
ROLES = "onlooker:\n  cluster: ['monitor']\n"


class SecuredNode(ElasticsearchNode):
    """A node on which users need rights; one administrator is in a file of it."""

    @property
    def admin_url(self) -> str:
        """Where it answers, with the name and password of the administrator."""
        return f"http://{ADMIN}:{PASSWORD}@{self.host}"

    def _launch(self, folder: ElasticFolder) -> None:
        digest = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()  # noqa: S324 - for a test
        config = folder.base / "config"
        (config / "users").write_text(f"{ADMIN}:{{SHA}}{digest}\n", encoding="utf-8")
        (config / "users_roles").write_text(f"superuser:{ADMIN}\n", encoding="utf-8")
        (config / "roles.yml").write_text(ROLES, encoding="utf-8")
        super()._launch(folder)


def secured_node(monkeypatch: pytest.MonkeyPatch) -> SecuredNode:
    """Return a node, not started, on which users need rights."""
    settings = elastic_folder.SETTINGS.replace("xpack.security.enabled: false\n", SECURITY)
    assert settings != elastic_folder.SETTINGS
    monkeypatch.setattr(elastic_folder, "SETTINGS", settings)
    return SecuredNode()
