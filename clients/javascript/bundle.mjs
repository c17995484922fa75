/**
 * Makes what a page loads by a script tag: one file as an ES module, one for other loaders (UMD), and their checksums, which the browser
 * compares (Subresource Integrity). The same sources give the same bytes.
 */

import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";

import { build } from "esbuild";

const { name, version, license } = JSON.parse(await readFile("package.json", "utf8"));
const to = "dist/script";
const say = `/*! ${name} ${version}, ${license} */`;
const common = { entryPoints: ["dist/index.js"], bundle: true, minify: true, target: "es2022", write: true, legalComments: "none" };

await mkdir(to, { recursive: true });
await build({ ...common, format: "esm", outfile: `${to}/countersign.js`, banner: { js: say } });

// esbuild has no UMD (https://github.com/umdjs/umd): what it calls an IIFE, within the usual three ways to hand it on.
const hand = `(function(g,f){if(typeof module==="object"&&module.exports)module.exports=f();else if(typeof define==="function"&&define.amd)define([],f);else g.Countersign=f()})(typeof globalThis==="object"?globalThis:self,function(){`;
await build({
  ...common,
  format: "iife",
  globalName: "Countersign",
  outfile: `${to}/countersign.umd.js`,
  banner: { js: say + hand },
  footer: { js: "return Countersign});" },
});
// The package's own type would make it an ES module to Node.
await writeFile(`${to}/package.json`, '{ "type": "commonjs" }\n');

const integrity = {};
for (const file of ["countersign.js", "countersign.umd.js"]) {
  const digest = createHash("sha384").update(await readFile(`${to}/${file}`)).digest("base64");
  integrity[file] = `sha384-${digest}`;
}
await writeFile(`${to}/integrity.json`, `${JSON.stringify(integrity, null, 2)}\n`);
