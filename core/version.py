"""What this program is, and which Consul API level it keeps.

Clients look at the Consul version (`/v1/agent/self`, the gossip tag `build`), so both are told."""

VERSION = "0.1.0"
CONSUL_VERSION = "1.9.8"
