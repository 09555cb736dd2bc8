// Goes through all that the `consul` package of Node offers; prints "passed" at the end.
// node node_client.js HOST PORT TOKEN
"use strict";
const assert = require("assert");
const Consul = require("consul");
const [host, port, token] = process.argv.slice(2);
const consul = new Consul({ host, port: Number(port), defaults: token ? { token } : {} });
const name = "js" + Math.random().toString(16).slice(2, 10);

async function until(what, found) {
  const end = Date.now() + 20000;
  for (;;) {
    const value = await found();
    if (value) return value;
    assert(Date.now() < end, "not within 20 s: " + what);
    await new Promise((wake) => setTimeout(wake, 20));
  }
}

async function keys() {
  assert.equal(await consul.kv.set({ key: `${name}/a`, value: "1", flags: 7 }), true);
  assert.equal(await consul.kv.set({ key: `${name}/b/c`, value: "2", cas: "0" }), true);
  assert(!(await consul.kv.set({ key: `${name}/b/c`, value: "3", cas: "0" })));
  const row = await consul.kv.get(`${name}/a`);
  assert.deepEqual([row.Value, row.Flags, row.LockIndex], ["1", 7, 0]);
  assert.deepEqual(await consul.kv.keys({ key: `${name}/`, separator: "/" }), [`${name}/a`, `${name}/b/`]);
  assert.equal((await consul.kv.get({ key: `${name}/`, recurse: true })).length, 2);
  assert.equal((await consul.kv.get({ key: `${name}/a`, raw: true })).toString(), "1");
  assert.equal(await consul.kv.get(`${name}/none`), undefined);
  const answer = await consul.transaction.create([{ KV: { Verb: "get", Key: `${name}/a` } }]);
  assert.equal(answer.Results.length, 1);
  assert.equal(await consul.kv.del({ key: `${name}/`, recurse: true }), true);
}

async function locks() {
  const { ID: id } = await consul.session.create({ name, ttl: "10s", behavior: "delete", lockdelay: "0s" });
  assert.equal(await consul.kv.set({ key: name, value: "x", acquire: id }), true);
  assert.equal((await consul.session.get(id)).Name, name);
  assert.equal((await consul.session.renew(id))[0].ID, id);
  const node = (await consul.catalog.node.list())[0].Node;
  assert((await consul.session.node(node)).some((one) => one.ID === id));
  assert((await consul.session.list()).some((one) => one.ID === id));
  assert.equal(await consul.kv.set({ key: name, value: "y", release: id }), true);
  assert.equal(await consul.kv.set({ key: name, value: "x", acquire: id }), true);
  await consul.session.destroy(id);
  assert.equal(await consul.kv.get(name), undefined);
}

async function services() {
  const { service, check } = consul.agent;
  await service.register({ name, id: `${name}1`, port: 80, tags: ["t"], check: { ttl: "20s" } });
  assert.equal((await service.list())[`${name}1`].Port, 80);
  for (const [verb, status] of [["pass", "passing"], ["warn", "warning"], ["fail", "critical"]]) {
    await check[verb]({ id: `service:${name}1`, note: verb });
    await until(status, async () => (await consul.health.checks(name))[0]?.Status === status);
  }
  assert.equal((await check.list())[`service:${name}1`].Output, "fail");
  assert.equal((await consul.health.service({ service: name, passing: true })).length, 0);
  assert((await consul.health.state("critical")).some((one) => one.ServiceName === name));
  assert.deepEqual((await consul.catalog.service.list())[name], ["t"]);
  const [row] = await consul.catalog.service.nodes(name);
  assert.equal(row.ServicePort, 80);
  assert((await consul.catalog.node.services(row.Node)).Services[`${name}1`]);
  assert((await consul.health.node(row.Node)).some((one) => one.ServiceID === `${name}1`));
  await service.maintenance({ id: `${name}1`, enable: true, reason: "work" });
  await service.maintenance({ id: `${name}1`, enable: false });
  const { ID: query } = await consul.query.create({ name: `${name}q`, service: { service: name } });
  assert.equal((await consul.query.get(query)).Name, `${name}q`);
  assert.equal((await consul.query.execute(`${name}q`)).Service, name);
  await consul.query.explain(`${name}q`); // the library gives nothing of the answer
  await consul.query.update({ query, name: `${name}r`, service: { service: name } });
  assert((await consul.query.list()).some((one) => one.Name === `${name}r`));
  await consul.query.destroy(query);
  await service.deregister(`${name}1`);
  await until("gone", async () => (await consul.catalog.service.nodes(name)).length === 0);
  await check.register({ name: `${name}-own`, tcp: `${host}:${port}`, interval: "100ms" });
  await until("own", async () => (await check.list())[`${name}-own`].Status === "passing");
  await check.deregister(`${name}-own`);
}

async function catalog() {
  const place = { node: `${name}n`, address: "10.0.0.9", service: { service: name, port: 5 } };
  await consul.catalog.register(place);
  assert.equal((await consul.catalog.service.nodes(name))[0].Address, "10.0.0.9");
  await consul.catalog.deregister({ node: `${name}n` });
  assert.deepEqual(await consul.catalog.datacenters(), ["dc1"]);
}

async function agent() {
  assert.equal((await consul.agent.self()).Config.Datacenter, "dc1");
  assert.equal((await consul.agent.members())[0].Addr, host);
  await consul.agent.maintenance({ enable: true, reason: "work" });
  assert((await consul.agent.checks())._node_maintenance);
  await consul.agent.maintenance(false);
  assert.equal(await consul.status.leader(), `${host}:8300`);
  assert.deepEqual(await consul.status.peers(), [`${host}:8300`]);
  await consul.agent.reload();
  const { ID: id } = await consul.event.fire({ name, payload: "body" });
  const heard = await until("event", async () => (await consul.event.list(name)).find((one) => one.ID === id));
  assert.equal(heard.Payload, "body");
}

async function watching() {
  const watch = consul.watch({ method: consul.kv.get, options: { key: `${name}/watched` } });
  const seen = [];
  watch.on("change", (data) => seen.push(data && data.Value));
  watch.on("error", (error) => seen.push(error.message));
  for (const value of ["1", "2"]) {
    await consul.kv.set(`${name}/watched`, value);
    await until("change " + value, async () => seen.at(-1) === value);
  }
  watch.end();
  await consul.kv.del(`${name}/watched`);
}

async function refusals() {
  const stranger = new Consul({ host, port: Number(port), defaults: { token: "0f0f0f0f-1111-2222-3333-444444444444" } });
  await assert.rejects(stranger.kv.get("x"), (error) => error.statusCode === 403);
}

(async () => {
  const parts = [keys, locks, services, catalog, agent, watching, ...(token ? [refusals] : [])];
  for (const part of parts) await part();
  console.log("passed");
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
