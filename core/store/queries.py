"""Prepared queries: reads and writes (protocols/fsm.md section 2, reference/http.md)."""

from __future__ import annotations

from msgspec.structs import replace

from core.errors import Invalid
from core.store import query_templates
from core.store.structs import PreparedQuery
from core.store.view import View
from core.store.watch import Watch


class QueryReads(View):
    """Reads of prepared queries; index and watch are those of the whole table."""

    def query_list(self, watch: Watch | None = None) -> tuple[int, list[PreparedQuery]]:
        """All prepared queries, by id."""
        self.watch_cell(watch, "prepared-queries")
        return self.index("prepared-queries"), list(self.queries.values())

    def query_get(self, query_id: str, watch: Watch | None = None) -> tuple[int, PreparedQuery | None]:
        self.watch_cell(watch, "prepared-queries")
        return self.index("prepared-queries"), self.queries.rows.get(query_id.lower())

    def query_resolve(
        self, id_or_name: str, segment: str = "", watch: Watch | None = None
    ) -> tuple[int, PreparedQuery | None]:
        """The query with this id or name, else what the template whose name is the longest prefix makes of
        it for an agent of `segment`. Invalid for the id of a template."""
        self.watch_cell(watch, "prepared-queries")
        if not id_or_name:
            raise Invalid("Missing query ID")
        index, rows = self.index("prepared-queries"), self.queries.rows
        key = id_or_name.lower()
        found = rows.get(key)
        if found is not None:
            if found.template.type:
                raise Invalid("prepared query templates can only be resolved up by name, not by ID")
            return index, found
        for length in range(len(key), -1, -1):
            for query_id in self.queries.group("name", key[:length]):
                if rows[query_id].template.type or length == len(key):
                    return index, query_templates.render(rows[query_id], id_or_name, segment)
        return index, None


def put(view: View, index: int, query: PreparedQuery) -> None:
    """Create or update a query. Its name must not be another's name or id; its session must exist."""
    if not query.id:
        raise Invalid("Missing query ID")
    key = query.id.lower()
    same_name = [other for other in view.queries.group("name", query.name.lower()) if other != key]
    if query.name:
        if same_name:
            raise Invalid(f"name '{query.name}' aliases an existing query name")
        if query.name.lower() in view.queries and query.name.lower() != key:
            raise Invalid(f"name '{query.name}' aliases an existing query ID")
    elif query.template.type and same_name:
        raise Invalid("a query template with an empty name already exists")
    if query.session and query.session not in view.sessions:
        raise Invalid(f'invalid session "{query.session}"')
    try:
        query_templates.check(query)
    except Invalid as error:
        raise Invalid(f"failed compiling template: {error}") from None
    existing = view.queries.get(key)
    created = index if existing is None else existing.create_index
    view.queries.put(key, replace(query, create_index=created, modify_index=index))
    view.bump("prepared-queries", index)


def delete(view: View, index: int, query_id: str) -> None:
    """Delete a query; nothing when there is none."""
    if view.queries.remove(query_id.lower()) is not None:
        view.bump("prepared-queries", index)
