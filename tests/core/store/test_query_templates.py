"""Templates of prepared queries: what is put in, what is refused, which template a name finds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Invalid
from core.store import query_templates
from core.store.structs import (
    PreparedQuery,
    QueryDatacenterOptions,
    QueryFailoverTarget,
    QueryTemplateOptions,
    ServiceQuery,
)


def template(
    name: str = "geo-", regexp: str = "", remove_empty: bool = False, **service: Any
) -> PreparedQuery:
    options = QueryTemplateOptions(query_templates.NAME_PREFIX_MATCH, regexp, remove_empty)
    return PreparedQuery(id="1", name=name, template=options, service=ServiceQuery(**service))


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("mysql", "mysql"),
        ("${name.full}", "geo-db-customer-primary"),
        ("${ name.suffix }!", "db-customer-primary!"),
        ("${name.prefix}x${name.suffix}", "geo-xdb-customer-primary"),
        ("${match(0)}", "geo-db-customer-primary"),
        ("${match(2)}-${match( 1 )}", "primary-customer"),
        ("${match(9)}", ""),
        ("in ${agent.segment}", "in alpha"),
        ("$${name.full} costs $5", "${name.full} costs $5"),
        ("", ""),
    ],
)
def test_what_is_put_in(text: str, rendered: str) -> None:
    query = template(regexp="^geo-db-(.*?)-([^\\-]+?)$", service=text)
    assert query_templates.render(query, "geo-db-customer-primary", "alpha").service.service == rendered


def test_every_text_of_the_service_is_filled_in() -> None:
    full = "${name.full}"
    query = template(
        service=full,
        near=full,
        tags=[full, "${match(1)}", "x"],
        ignore_check_ids=[full],
        node_meta={"k": full},
        service_meta={"k": full},
        failover=QueryDatacenterOptions(
            2, ["dc-${name.suffix}"], [QueryFailoverTarget(datacenter="${name.suffix}")]
        ),
    )
    name = "geo-1"
    assert query_templates.render(query, name).service == ServiceQuery(
        service=name,
        near=name,
        tags=[name, "", "x"],
        ignore_check_ids=[name],
        node_meta={"k": name},
        service_meta={"k": name},
        failover=QueryDatacenterOptions(2, ["dc-1"], [QueryFailoverTarget(datacenter="1")]),
    )


def test_empty_tags_go_if_that_is_wanted() -> None:
    query = template(remove_empty=True, service="x", tags=["${match(1)}", "a"])
    assert query_templates.render(query, "geo-").service.tags == ["a"]


def test_what_is_no_template_stays() -> None:
    query = PreparedQuery(name="q", service=ServiceQuery(service="${name.full}"))
    query_templates.check(query)
    assert query_templates.render(query, "q") is query


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("${name.full", "expected } behind ${"),
        ("a${nope}", "unknown expression 'nope', there are name.full, "),
        ("${match(x)}", "unknown expression 'match"),
        ("${match(1}", "unknown expression 'match"),
        ("${match 1)}", "unknown expression 'match"),
        ("${}", "unknown expression ''"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, why: str) -> None:
    with pytest.raises(Invalid) as caught:
        query_templates.check(template(service="x", tags=["ok", text]))
    assert str(caught.value).startswith(f"Bad format '{text}' in Service.Tags[1]: {why}")


@given(st.text("${}().abcdefmnul1 ", max_size=24), st.text("ab-", max_size=6))
def test_what_passes_the_check_can_be_rendered(text: str, name: str) -> None:
    query = template(regexp="(.)(b)?", service=text)
    try:
        query_templates.check(query)
    except Invalid:
        return
    query_templates.render(query, "geo-" + name)


@given(st.text(max_size=20), st.text(max_size=20))
def test_names_are_put_in_as_they_are(prefix: str, rest: str) -> None:
    query = template(prefix, service="${name.prefix}|${name.suffix}|${name.full}")
    assert query_templates.render(query, prefix + rest).service.service == f"{prefix}|{rest}|{prefix + rest}"
