"""Checks manifests of kinds that are not Kubernetes' own by the CustomResourceDefinitions of those who bring them.

    custom-kinds.py FOLDER FILE...     FOLDER has the definitions, as YAML

A member that a definition does not know is an error: Kubernetes would drop it in silence. So is a file's kind that no definition
in the folder has, unless it is Kubernetes' own.
"""

import pathlib
import sys

import jsonschema
import yaml

# Groups of our manifests that are not Kubernetes' own.
GROUPS = ("gateway.networking.k8s.io", "keda.sh", "monitoring.coreos.com")


def documents(path):
    with open(path, encoding="utf-8") as text:
        return [document for document in yaml.safe_load_all(text) if document]


def strict(schema):
    """As the API server prunes: what is not named is not there."""
    if isinstance(schema, dict):
        keeps = schema.get("x-kubernetes-preserve-unknown-fields")
        if "properties" in schema and "additionalProperties" not in schema and not keeps:
            schema["additionalProperties"] = False
        if schema.pop("x-kubernetes-int-or-string", False):
            schema.pop("type", None)
            schema["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        strict(part)


def definitions(folder):
    found = {}
    for path in sorted(pathlib.Path(folder).rglob("*.yaml")):
        for document in documents(path):
            if document.get("kind") != "CustomResourceDefinition":
                continue
            spec = document["spec"]
            for version in spec["versions"]:
                schema = version["schema"]["openAPIV3Schema"]
                strict(schema)
                schema["properties"]["metadata"] = {"type": "object"}
                found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def main():
    if len(sys.argv) < 3:
        sys.exit("custom-kinds.py: which folder of definitions, and which files?")
    known, wrong, checked = definitions(sys.argv[1]), [], 0
    for path in sys.argv[2:]:
        for document in documents(path):
            api, kind = document.get("apiVersion", ""), document.get("kind", "")
            if not api.startswith(GROUPS):
                continue
            checked += 1
            if (api, kind) not in known:
                wrong.append(f"{path}: no definition of {kind} in {api}")
                continue
            for error in jsonschema.Draft7Validator(known[api, kind]).iter_errors(document):
                wrong.append(f"{path}: {kind}: {'/'.join(map(str, error.path))}: {error.message}")
    print("\n".join(wrong + [f"{checked} of other kinds, {len(wrong)} errors"]))
    sys.exit(bool(wrong) or not checked)


main()
