// Checks manifests of kinds that are not Kubernetes' own, by models that are made of their published definitions.
//
//     node custom-kinds.mjs FILE...
//
// What a model's schema refuses is an error, and so is a member that its type does not have: Kubernetes would drop it in silence.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { parseAllDocuments } from 'yaml';

/** Groups that are not Kubernetes' own, and the package with the models of each. */
const MODELS = {
  'gateway.networking.k8s.io': '@kubernetes-models/gateway-api',
  'keda.sh': '@kubernetes-models/keda',
  'monitoring.coreos.com': '@kubernetes-models/prometheus-operator',
};

/** The documents of the files that are of these groups, each with where it is and the module of its model. */
function documents(paths) {
  const all = paths.flatMap((path) =>
    parseAllDocuments(readFileSync(path, 'utf8')).map((document) => ({ path, document: document.toJS() })),
  );
  return all.flatMap(({ path, document }) => {
    const [group, version] = (document?.apiVersion ?? '').split('/');
    return group in MODELS ? [{ path, document, from: `${MODELS[group]}/${group}/${version}` }] : [];
  });
}

/** What the schema of a document's kind says against it. */
async function refused({ document, from }) {
  const models = await import(from).catch(() => ({}));
  const model = models[document.kind];
  if (!model) return `no definition of ${document.kind} in ${document.apiVersion}`;
  try {
    new model(document).validate();
  } catch (error) {
    return error.message;
  }
  return undefined;
}

/** What the types say against the documents, each as a literal on a line of its own: its line, and why. */
function mistyped(known) {
  const path = join(dirname(fileURLToPath(import.meta.url)), 'documents.ts');
  const lines = known.map(
    ({ document, from }) =>
      `(${JSON.stringify(document)}) satisfies import('${from}', { with: { 'resolution-mode': 'import' } }).I${document.kind};`,
  );
  const options = {
    module: ts.ModuleKind.Node16,
    noEmit: true,
    skipLibCheck: true,
    strict: true,
    target: ts.ScriptTarget.ES2022,
    types: [],
  };
  const host = ts.createCompilerHost(options);
  const { fileExists, getSourceFile } = host;
  host.fileExists = (name) => name === path || fileExists(name);
  host.getSourceFile = (name, ...rest) =>
    name === path ? ts.createSourceFile(name, lines.join('\n'), ts.ScriptTarget.ES2022) : getSourceFile(name, ...rest);
  return ts.getPreEmitDiagnostics(ts.createProgram([path], options, host)).map(({ file, start, messageText }) => ({
    line: file === undefined ? 0 : file.getLineAndCharacterOfPosition(start).line,
    why: ts.flattenDiagnosticMessageText(messageText, ': '),
  }));
}

const all = documents(process.argv.slice(2));
const wrong = [];
const known = [];
for (const one of all) {
  const why = await refused(one);
  if (why) wrong.push(`${one.path}: ${one.document.kind}: ${why}`);
  else known.push(one);
}
for (const { line, why } of mistyped(known)) wrong.push(`${known[line].path}: ${known[line].document.kind}: ${why}`);
console.log([...wrong, `${all.length} of other kinds, ${wrong.length} errors`].join('\n'));
process.exitCode = wrong.length > 0 || all.length === 0 ? 1 : 0;
