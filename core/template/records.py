"""What dependencies yield: records with the fields that templates name (reference/template.md 2)."""

from __future__ import annotations

from core.template.values import Record, StringMap, Values
from core.template.values import Tags as TagList


class KeyPair(Record, frozen=True):
    """A key with its value; `Key` is relative to the prefix that was asked for, `Path` is the whole."""

    GO_TYPE = "*dependency.KeyPair"
    Path: str = ""
    Key: str = ""
    Value: str = ""
    Exists: bool = True
    CreateIndex: int = 0
    ModifyIndex: int = 0
    LockIndex: int = 0
    Flags: int = 0
    Session: str = ""


class ServiceAddress(Record, frozen=True):
    """An address of a service under a tag such as `lan` or `wan`."""

    GO_TYPE = "api.ServiceAddress"
    Address: str = ""
    Port: int = 0


class ServiceWeights(Record, frozen=True):
    """How much of the traffic an instance wants."""

    GO_TYPE = "api.AgentWeights"
    Passing: int = 1
    Warning: int = 1


class CheckDefinition(Record, frozen=True):
    """What a check does, as far as the catalog knows."""

    GO_TYPE = "api.HealthCheckDefinition"
    Interval: str = "0s"
    Timeout: str = "0s"
    DeregisterCriticalServiceAfter: str = "0s"
    HTTP: str = ""
    Header: dict[str, list[str]] | None = None
    Method: str = ""
    Body: str = ""
    TLSServerName: str = ""
    TLSSkipVerify: bool = False
    TCP: str = ""
    GRPC: str = ""
    GRPCUseTLS: bool = False


class Check(Record, frozen=True):
    """A health check."""

    GO_TYPE = "*api.HealthCheck"
    Node: str = ""
    CheckID: str = ""
    Name: str = ""
    Status: str = ""
    Notes: str = ""
    Output: str = ""
    ServiceID: str = ""
    ServiceName: str = ""
    ServiceTags: TagList = TagList()
    Type: str = ""
    Definition: CheckDefinition = CheckDefinition()
    CreateIndex: int = 0
    ModifyIndex: int = 0


class CheckList(Values):
    """The checks of an instance and of its node."""

    GO_TYPE = "api.HealthChecks"


class HealthService(Record, frozen=True):
    """An instance of a service; `Address` falls back to that of the node."""

    GO_TYPE = "*dependency.HealthService"
    Node: str = ""
    NodeID: str = ""
    NodeAddress: str = ""
    NodeTaggedAddresses: StringMap = StringMap()
    NodeMeta: StringMap = StringMap()
    ServiceMeta: StringMap = StringMap()
    Address: str = ""
    ServiceTaggedAddresses: dict[str, ServiceAddress] = {}
    ID: str = ""
    Name: str = ""
    Tags: TagList = TagList()
    Checks: CheckList = CheckList()
    Status: str = ""
    Port: int = 0
    Weights: ServiceWeights = ServiceWeights()


class HealthServices(Values):
    """Instances of a service."""

    GO_TYPE = "[]*dependency.HealthService"


class CatalogSnippet(Record, frozen=True):
    """A service by name, with the tags of all its instances."""

    GO_TYPE = "*dependency.CatalogSnippet"
    Name: str = ""
    Tags: TagList = TagList()


class CatalogSnippets(Values):
    """Services by name."""

    GO_TYPE = "[]*dependency.CatalogSnippet"


class CatalogEntry(Record, frozen=True):
    """A node of the catalog."""

    GO_TYPE = "*dependency.Node"
    ID: str = ""
    Node: str = ""
    Address: str = ""
    Datacenter: str = ""
    TaggedAddresses: StringMap = StringMap()
    Meta: StringMap = StringMap()


class Nodes(Values):
    """Nodes of the catalog."""

    GO_TYPE = "[]*dependency.Node"


class NodeService(Record, frozen=True):
    """A service on a node."""

    GO_TYPE = "*dependency.CatalogNodeService"
    ID: str = ""
    Service: str = ""
    Tags: TagList = TagList()
    Meta: StringMap = StringMap()
    Port: int = 0
    Address: str = ""
    EnableTagOverride: bool = False


class NodeServices(Values):
    """The services on a node."""

    GO_TYPE = "[]*dependency.CatalogNodeService"


class CatalogNode(Record, frozen=True):
    """A node with its services."""

    GO_TYPE = "*dependency.CatalogNode"
    Node: CatalogEntry | None = None
    Services: NodeServices = NodeServices()


class KeyPairs(Values):
    """Pairs of keys and values."""

    GO_TYPE = "[]*dependency.KeyPair"
