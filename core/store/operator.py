"""Tables that the servers keep for themselves: autopilot, coordinates, system metadata, federation states."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec.structs import replace

from core.store.structs import AutopilotConfig, Coord, Coordinate, FederationState, SystemMetadataEntry
from core.store.table import Table
from core.store.view import View
from core.store.watch import Watch

DIMENSIONS = 8
MARKER = "intention-format"


class OperatorState(View):
    """Reads of the operator's tables; index and watch are those of the whole table."""

    def _make_tables(self) -> None:
        super()._make_tables()
        self.autopilot: Table[str, AutopilotConfig] = self.add_table("autopilot-config")
        self.federation_states: Table[str, FederationState] = self.add_table("federation-states")
        self.system_metadata: Table[str, SystemMetadataEntry] = self.add_table("system-metadata")

    def autopilot_config(self) -> AutopilotConfig | None:
        return self.autopilot.rows.get("")

    def coordinate_list(self, watch: Watch | None = None) -> tuple[int, list[Coordinate]]:
        """All coordinates, by node and segment."""
        self.watch_cell(watch, "coordinates")
        return self.index("coordinates"), list(self.coordinates.values())

    def node_coordinates(self, node: str, watch: Watch | None = None) -> tuple[int, list[Coordinate]]:
        """The coordinates of a node, one for each segment it is in."""
        self.watch_cell(watch, "coordinates")
        rows = self.coordinates.rows
        return self.index("coordinates"), [rows[key] for key in self.coordinates.group("node", node.lower())]

    def federation_state_list(self, watch: Watch | None = None) -> tuple[int, list[FederationState]]:
        self.watch_cell(watch, "federation-states")
        return self.index("federation-states"), list(self.federation_states.values())

    def metadata(self, key: str) -> str | None:
        """The value of a system metadata entry, None when there is none."""
        entry = self.system_metadata.rows.get(key.lower())
        return None if entry is None else entry.value


def set_autopilot(state: OperatorState, index: int, config: AutopilotConfig, cas: bool) -> bool | None:
    """Replace the configuration; with `cas` only if its ModifyIndex fits, and say whether it did."""
    existing = state.autopilot_config()
    if cas and (existing is None or existing.modify_index != config.modify_index):
        return False
    created = index if existing is None else existing.create_index
    state.autopilot.put("", replace(config, create_index=created, modify_index=index))
    return True if cas else None


def set_coordinates(state: OperatorState, index: int, batch: Sequence[Coordinate]) -> None:
    """Store those that are valid and whose node exists. The index moves even if none was."""
    for coordinate in batch:
        node = coordinate.node.lower()
        if node in state.node_rows and coordinate.coord is not None and _valid(coordinate.coord):
            state.coordinates.put((node, coordinate.segment), coordinate)
    state.bump("coordinates", index)


def _valid(coord: Coord) -> bool:
    numbers = (*(coord.vec or ()), coord.error, coord.adjustment, coord.height)
    return len(coord.vec or ()) == DIMENSIONS and all(map(math.isfinite, numbers))


def set_federation_state(state: OperatorState, index: int, entry: FederationState) -> bool:
    """Store the state of a datacenter."""
    key = entry.datacenter.lower()
    existing = state.federation_states.get(key)
    stored = replace(
        entry,
        create_index=index if existing is None else existing.create_index,
        modify_index=index,
        primary_modify_index=entry.primary_modify_index or index,
    )
    state.federation_states.put(key, stored)
    state.bump("federation-states", index)
    return True


def delete_federation_state(state: OperatorState, index: int, datacenter: str) -> None:
    """Delete the state of a datacenter; nothing when there is none."""
    if state.federation_states.remove(datacenter.lower()) is not None:
        state.bump("federation-states", index)


def set_metadata(state: OperatorState, index: int, entry: SystemMetadataEntry) -> bool:
    """Store a marker."""
    key = entry.key.lower()
    existing = state.system_metadata.get(key)
    created = index if existing is None else existing.create_index
    state.system_metadata.put(key, replace(entry, create_index=created, modify_index=index))
    state.bump("system-metadata", index)
    return True


def delete_metadata(state: OperatorState, index: int, key: str) -> None:
    """Delete a marker; nothing when there is none."""
    if state.system_metadata.remove(key.lower()) is not None:
        state.bump("system-metadata", index)
