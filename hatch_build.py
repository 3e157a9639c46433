"""Ships ``conf/`` in the wheel as ``embedsweep/conf``; an editable install reads the checkout's."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShipConf(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling's hook before a build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the folder to a standard wheel; a copy beside an editable install would go stale."""
        if version == "standard":
            build_data["force_include"]["conf"] = "embedsweep/conf"
