// Tries methods of twitter-api-v2, unpatched, on a lab. Reads {gateway, token, calls: {client: [[method, arguments]]}} from
// stdin; writes {names: {client: [method]}, results: {client: {method: [status, detail]}}} to stdout. NODE_PATH finds the package.
"use strict";
const fs = require("fs");
const https = require("https");
const net = require("net");
const { TwitterApi } = require("twitter-api-v2");

const BASES = ["TwitterApiSubClient", "TwitterApiBase"];
const request = JSON.parse(fs.readFileSync(0, "utf8"));

// Connects to the gateway in place of Twitter's hosts: plain TCP, because the lab has no certificate for them.
class LabAgent extends https.Agent {
  createConnection() {
    const [host, port] = request.gateway.split(":");
    return net.connect(Number(port), host);
  }
}

function methodsOf(client) {
  const names = new Set();
  for (let proto = Object.getPrototypeOf(client); proto !== Object.prototype; proto = Object.getPrototypeOf(proto)) {
    if (BASES.includes(proto.constructor.name)) break;
    for (const name of Object.getOwnPropertyNames(proto)) {
      const isMethod = typeof Object.getOwnPropertyDescriptor(proto, name).value === "function";
      if (isMethod && name !== "constructor" && !name.startsWith("_")) names.add(name);
    }
  }
  return [...names].sort();
}

const argument = (value) => (typeof value === "string" && value.startsWith("base64:") ? Buffer.from(value.slice(7), "base64") : value);

async function tried(client, name, args) {
  try {
    await client[name](...args.map(argument));
    return [200, ""];
  } catch (problem) {
    if (problem.code >= 400) return [problem.code, String(problem.data?.detail ?? problem.data?.error_description ?? "")];
    return [0, String(problem.message ?? problem).slice(0, 200)];
  }
}

async function main() {
  const settings = { httpAgent: new LabAgent({ keepAlive: false }) };
  const user = new TwitterApi(request.token ?? "none", settings);
  const app = new TwitterApi({ clientId: "lab" }, settings); // for the calls that need a client id
  const clients = { v2: user.v2, client: user, v1: user.v1 };
  const names = Object.fromEntries(Object.entries(clients).map(([kind, client]) => [kind, methodsOf(client)]));
  const results = {};
  for (const [kind, calls] of Object.entries(request.calls)) {
    results[kind] = {};
    for (const [name, args] of calls) {
      results[kind][name] = await tried(name.includes("OAuth2") ? app : clients[kind], name, args);
    }
  }
  if (request.gateway) {
    results.v1 = {};
    for (const name of ["singleTweet", "tweet", "verifyCredentials", "user", "homeTimeline", "deleteTweet", "trendsAvailable"]) {
      results.v1[name] = await tried(user.v1, name, ["1"]);
    }
  }
  process.stdout.write(JSON.stringify({ names, results }));
}

main();
