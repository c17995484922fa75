// Reads a document with AsyncAPI's own parser, prints what is wrong in it, and fails on errors and warnings.
import { readFile } from 'node:fs/promises';
import { Parser } from '@asyncapi/parser';

const SEVERITIES = ['error', 'warning', 'information', 'hint'];
const path = process.argv[2];

const { diagnostics } = await new Parser().parse(await readFile(path, 'utf8'));
for (const { severity, code, message, path: place } of diagnostics) {
  console.log(`${path}: ${SEVERITIES[severity]}: ${place.join('.')}: ${message} (${code})`);
}
const bad = diagnostics.filter(({ severity }) => severity <= 1).length;
console.log(`${path}: ${bad} errors and warnings`);
process.exitCode = bad ? 1 : 0;
