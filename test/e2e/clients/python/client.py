"""Calls the square example over one gRPC channel, as any Python program would, and prints once a second who answered.

    client.py TARGET CALLS_PER_SECOND

Messages are written and read by hand, so that nothing is generated. The lines are those of every client in this folder: see clients.go.
"""

import collections
import json
import sys
import time

import grpc


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def fields(message):
    """The fields of a message by their number: integers, or bytes."""
    out, at = {}, 0

    def number():
        nonlocal at
        n, shift = 0, 0
        while True:
            b = message[at]
            at += 1
            n |= (b & 127) << shift
            shift += 7
            if b < 128:
                return n

    while at < len(message):
        key = number()
        value = number()
        if key & 7 == 2:
            out[key >> 3] = message[at:at + value]
            at += value
        else:
            out[key >> 3] = value
    return out


def main():
    target, every = sys.argv[1], 1 / float(sys.argv[2])
    channel = grpc.insecure_channel(target)
    square = channel.unary_unary("/square.SquareService/findSquareUnary")
    told = {"calls": 0, "failed": 0, "hosts": collections.Counter(), "errors": collections.Counter()}
    start = said = time.monotonic()
    n = 0
    while True:
        n += 1
        try:
            answer = fields(square(b"\x08" + varint(n % 1000), timeout=10, wait_for_ready=False))
            if answer.get(2, 0) != (n % 1000) ** 2:
                raise ValueError(f"the square of {n % 1000} is not {answer.get(2)}")
            told["hosts"][answer[3].decode()] += 1
        except grpc.RpcError as e:
            told["failed"] += 1
            told["errors"][f"{e.code().name}: {e.details()}"] += 1
        told["calls"] += 1
        if time.monotonic() - said >= 1:
            said = time.monotonic()
            print(json.dumps(told), flush=True)
        time.sleep(max(0, start + n * every - time.monotonic()))


main()
