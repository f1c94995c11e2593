"""Writes `hpack_corpus.txt`: header blocks by Python's `hpack` (pip install hpack), an encoder that uses the dynamic table,
Huffman codes and size updates. Deterministic. Usage: python3 hpack_corpus.py > hpack_corpus.txt"""

import random

from hpack import Encoder, NeverIndexedHeaderTuple

NAMES = ["accept", "accept-language", "cookie", "x-request-id", "user-agent", "if-none-match", "x", "content-type", "te"]
TEXT = "abcdefghijklmnopqrstuvwxyz0123456789-_/;=,. ABCDEFGHIJ~|{}\\^\""
rng = random.Random(7541)

for _ in range(5):
    print("connection")
    encoder = Encoder()
    seen = []
    for i in range(12):
        if rng.random() < 0.2:
            encoder.header_table_size = rng.choice([0, 64, 256, 1024, 4096])
        fields = [(":method", rng.choice(["GET", "POST", "PURGE"])), (":scheme", "https"), (":path", "/" + str(i // 3))]
        for _ in range(rng.randrange(14)):
            if seen and rng.random() < 0.5:
                fields.append(rng.choice(seen))
                continue
            value = "".join(rng.choice(TEXT) for _ in range(rng.choice([0, 1, 5, 20, 20, 60, 150])))
            field = (rng.choice(NAMES), value)
            seen.append(field)
            fields.append(NeverIndexedHeaderTuple(*field) if rng.random() < 0.1 else field)
        block = encoder.encode(fields, huffman=rng.random() < 0.7)
        print("block", block.hex())
        for name, value in fields:
            print("field", name.encode().hex(), value.encode().hex())
