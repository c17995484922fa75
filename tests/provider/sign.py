"""Signs with Authlib, for the claims: see tests/src/servers/authlib.rs.

Standard input is a JSON array of what is to be signed, each an object of `alg`, perhaps `typ`, and `claims`. For each algorithm a
key is made. Standard output is `{"jwks", "signed"}`, with what was signed in the same order.
"""

import json
import sys

from authlib.jose import JsonWebKey, JsonWebToken, KeySet

KINDS = {
    "RS256": ("RSA", 2048),
    "PS256": ("RSA", 2048),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "EdDSA": ("OKP", "Ed25519"),
}


def main() -> None:
    keys, signed = {}, []
    for statement in json.load(sys.stdin):
        algorithm = statement["alg"]
        kid = f"of-{algorithm}"
        if algorithm not in keys:
            keys[algorithm] = JsonWebKey.generate_key(*KINDS[algorithm], options={"kid": kid}, is_private=True)
        header = {"alg": algorithm, "kid": kid}
        if statement["typ"]:
            header["typ"] = statement["typ"]
        text = JsonWebToken([algorithm]).encode(header, statement["claims"], keys[algorithm])
        signed.append(text.decode())
    json.dump({"jwks": KeySet(list(keys.values())).as_dict(is_private=False), "signed": signed}, sys.stdout)


main()
