/**
 * The package as a user gets it, without the rest of this project: what is in it, that plain Node and strict
 * TypeScript take it, and that what its README shows is so.
 */

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { Countersign, WITH_PROGRAM } from "../real/countersign.js";

const run = promisify(execFile);

/** Where the package is made: above build/test/package. */
const HERE = fileURLToPath(new URL("../../../", import.meta.url));

/** 64 KiB: more would be something that does not belong in it. */
const MOST_PACKED_BYTES = 65_536;

interface Packed {
  filename: string;
  size: number;
  files: { path: string }[];
}

let folder = "";
let packed: Packed;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "countersign-client-"));
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", folder], { cwd: HERE });
  // What the scripts say comes first.
  const told = JSON.parse(stdout.slice(stdout.search(/^[[{]/m))) as Packed[] | { [name: string]: Packed };
  packed = Object.values(told)[0] ?? assert.fail("nothing was packed");
  const modules = join(folder, "node_modules");
  await mkdir(join(modules, "countersign-client"), { recursive: true });
  const archive = join(folder, packed.filename);
  await run("tar", ["xzf", archive, "--strip-components=1", "-C", join(modules, "countersign-client")]);
  // What a project has of its own.
  for (const name of ["ws", "@types"]) await symlink(join(HERE, "node_modules", name), join(modules, name));
  await writeFile(join(folder, "package.json"), '{"type":"module"}');
});

after(() => rm(folder, { recursive: true, force: true }));

/** The blocks of TypeScript in the README, which says which is which by what stands in them. */
async function readme(having: string): Promise<string> {
  const text = await readFile(join(HERE, "README.md"), "utf8");
  const blocks = [...text.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, block]) => block ?? "");
  return blocks.find((block) => block.includes(having)) ?? assert.fail(`no block has ${having}`);
}

/** Checks files as strictly as TypeScript can, the package's types included, and compiles them. */
async function compile(files: { [name: string]: string }, options: object): Promise<void> {
  const strict = { strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, target: "es2022" };
  const config = { compilerOptions: { ...strict, ...options }, files: Object.keys(files) };
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify(config));
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
  const tsc = join(HERE, "node_modules/typescript/bin/tsc");
  const { stdout } = await run(process.execPath, [tsc], { cwd: folder }).catch((error: { stdout: string }) => error);
  assert.equal(stdout, "");
}

describe("the package", () => {
  test("has what was built, its README and its licences, and nothing else", () => {
    const files = packed.files.map(({ path }) => path);
    const others = files.filter((path) => !/^dist\/((connection|request)\/)?[a-z]+(\.js|\.d\.ts)$/.test(path));
    const script = ["countersign.js", "countersign.umd.js", "integrity.json", "package.json"].map((name) => `dist/script/${name}`);
    assert.deepEqual(others.sort(), ["LICENSE-APACHE", "LICENSE-MIT", "README.md", ...script, "package.json"]);
    for (const built of ["dist/index.js", "dist/index.d.ts"]) assert.ok(files.includes(built));
    assert.ok(packed.size < MOST_PACKED_BYTES, `${packed.size} bytes`);
  });

  test("has files for script tags, with their checksums, and is the same when it is made again", async () => {
    const script = join(folder, "node_modules/countersign-client/dist/script");
    const integrity = JSON.parse(await readFile(join(script, "integrity.json"), "utf8")) as { [file: string]: string };
    assert.deepEqual(Object.keys(integrity), ["countersign.js", "countersign.umd.js"]);
    for (const [file, checksum] of Object.entries(integrity)) {
      const bytes = await readFile(join(script, file));
      assert.equal(`sha384-${createHash("sha384").update(bytes).digest("base64")}`, checksum);
      assert.match(String(bytes), /^\/\*! countersign-client \d+\.\d+\.\d+, MIT OR Apache-2\.0 \*\//);
    }
    await run("npm", ["run", "build"], { cwd: HERE });
    assert.deepEqual(JSON.parse(await readFile(join(HERE, "dist/script/integrity.json"), "utf8")), integrity);
  });

  test("may be published as it is", async () => {
    const { stdout } = await run("npm", ["publish", "--dry-run", "--json", "--offline"], { cwd: HERE });
    assert.match(stdout, /"name": "countersign-client"/);
  });

  test("needs no other", async () => {
    const manifest = JSON.parse(await readFile(join(folder, "node_modules/countersign-client/package.json"), "utf8")) as object;
    for (const kind of ["dependencies", "peerDependencies", "optionalDependencies"]) assert.ok(!(kind in manifest), kind);
  });

  test("is taken by plain Node, as it is by its name", async () => {
    await writeFile(join(folder, "use.mjs"), 'import * as all from "countersign-client"; console.log(Object.keys(all).join());');
    const { stdout } = await run(process.execPath, ["use.mjs"], { cwd: folder });
    assert.equal(stdout, "Client,CountersignError,RefusedHandshake,SUBPROTOCOL,isTerminal\n");
  });

  test("is taken by plain Node's require, and one knows the other's errors", async () => {
    const text = `const { CountersignError: One } = require("countersign-client");
      import("countersign-client").then(({ CountersignError: Other }) => console.log(One === Other, new One("busy", "", true) instanceof Other));`;
    await writeFile(join(folder, "use.cjs"), text);
    const { stdout } = await run(process.execPath, ["use.cjs"], { cwd: folder });
    assert.equal(stdout, "false true\n");
  });

  test("locks what is built with by what it is, and not by where it was fetched", async () => {
    const lock = await readFile(join(HERE, "package-lock.json"), "utf8");
    assert.doesNotMatch(lock, /"resolved"/);
  });
});

describe("what the README shows", () => {
  test("is right in a page, where the platform has a WebSocket", async () => {
    const files = {
      "shown.ts": await readme("wss://api.example.com"),
      "watched.ts": await readme("showLogin"),
      "refused.ts": await readme("not logged in"),
      "follow.ts": await readme("order.shipped"),
      "own.ts": 'import { Client } from "countersign-client"; new Client({ url: "/", token: () => "", WebSocket });',
    };
    await compile(files, { module: "esnext", moduleResolution: "bundler", types: [], lib: ["es2022", "dom"], noEmit: true });
  });

  test("is right in Node, and does there what it says", WITH_PROGRAM, async (t) => {
    const server = await Countersign.start(t);
    const text = await readme("ws://127.0.0.1:8080");
    const there = text.replace("ws://127.0.0.1:8080", server.url).replace("http://127.0.0.1:8000", server.page);
    const files = { "shown.ts": there, "watched.ts": await readme("showLogin") };
    await compile(files, { module: "nodenext", types: ["node"], lib: ["es2022"] });
    const { stdout } = await run(process.execPath, ["shown.js"], { cwd: folder });
    assert.equal(stdout, "{ hello: 'world' }\n");
  });
});

describe("the example that listens", WITH_PROGRAM, () => {
  for (const [which, flags] of [
    ["the package ws", []],
    ["the platform's own WebSocket", ["--experimental-websocket"]],
  ] as const) {
    test(`does, with ${which}`, async (t) => {
      const server = await Countersign.start(t);
      const example = join(HERE, "examples/listen.mjs");
      const child = spawn(process.execPath, [...flags, example, "alice", server.page], { stdio: ["pipe", "pipe", "ignore"] });
      t.after(() => child.kill());
      const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
      child.stdin.write("hello\n");
      assert.equal((await lines.next()).value, 'answered: "hello"');
      assert.equal(await server.push("alice", { news: 1 }), "delivered");
      assert.equal((await lines.next()).value, 'pushed: {"news":1}');
      child.stdin.end();
      const code = await new Promise((resolve) => child.once("exit", resolve));
      assert.equal(code, 0);
    });
  }
});
