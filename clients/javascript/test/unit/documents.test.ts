/**
 * What the documents list, and the code has.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

/** Above build/test/unit. */
const read = (path: string): string => readFileSync(new URL(`../../../${path}`, import.meta.url), "utf8");

/** What stands between two texts. */
function between(text: string, begin: string, end: string): string {
  const [, rest = assert.fail(`nothing has ${begin}`)] = text.split(begin);
  return rest.split(end)[0] ?? "";
}

/** The strings of a union of types. */
function union(path: string, name: string): string[] {
  return [...between(read(path), `export type ${name} =`, ";\n").matchAll(/^ +\| ["`]([a-z_.]+)/gm)].map(([, code]) => code ?? "").sort();
}

/** What the first columns of the tables in a section name. */
function rows(path: string, section: string): string[] {
  const lines = between(read(path), `\n## ${section}\n`, "\n## ").split("\n").filter((line) => line.startsWith("| `"));
  return lines.flatMap((line) => [...(line.split(" | ")[0] ?? "").matchAll(/`([\w.]+)…?`/g)].map(([, code]) => code ?? "")).sort();
}

test("the README lists the codes of errors that the client adds", () => {
  assert.deepEqual([...new Set(rows("README.md", "Errors"))], union("src/errors.ts", "LocalCode"));
});

test("the client knows the server's codes of errors", () => {
  assert.deepEqual(union("src/protocol.ts", "ErrorCode"), rows("../../docs/protocol.md", "Error codes"));
});

test("the library for Python has the same codes but one, and its documentation lists them", () => {
  const error = between(read("../python/src/countersign_client/errors.py"), "class CountersignError", "def __init__");
  const codes = [...error.matchAll(/`([a-z][a-z_]+)`/g)].map(([, code]) => code ?? "");
  assert.deepEqual(codes.sort(), union("src/errors.ts", "LocalCode").filter((code) => code !== "aborted"));
});

test("the READMEs list all options", () => {
  const own = [...between(read("src/options.ts"), "export interface ClientOptions {", "\n}\n").matchAll(/^ {2}(\w+)\??:/gm)];
  assert.deepEqual(rows("README.md", "Options"), own.map(([, name]) => name ?? "").sort());
  const signature = between(read("../python/src/countersign_client/_client.py"), "def __init__(", ") -> None:");
  const theirs = [...signature.matchAll(/^ {8}(\w+): /gm)].map(([, name]) => name ?? "");
  const listed = new Set(rows("../python/README.md", "Options"));
  for (const name of theirs) assert.ok(listed.has(name), name);
});
