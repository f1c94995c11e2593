"""Both ends of gRPC, real ones: `server`, which prints its port, and `client ADDRESS SCENARIO`, which ends with 0 if all is as
it should be. Messages are bytes as they are: what is tested is the way, not the encoding."""

import sys
import threading
import time
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

BIG = bytes(i * 31 % 251 for i in range(1 << 20))


def unary(request, context):
    given = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-initial", given.get("x-given", "")),))
    context.set_trailing_metadata(
        (("x-trailing", "t"), ("x-trailing-bin", given.get("x-given-bin", b"")))
    )
    return request


def fail(request, context):
    context.set_trailing_metadata((("x-why-bin", b"\0\1\xff"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "so nicht: 100 % \u00fc")


def server_stream(request, context):
    for i in range(int(request)):
        yield b"%d" % i


def client_stream(requests, context):
    n = total = 0
    for request in requests:
        n += 1
        total += len(request)
    return b"%d %d" % (n, total)


def both(requests, context):
    for request in requests:
        yield request


def broken_stream(request, context):
    yield b"0"
    context.abort(grpc.StatusCode.DATA_LOSS, "after one")


CANCELLED = threading.Event()


def slow(request, context):
    gone = threading.Event()
    context.add_callback(gone.set)
    if gone.wait(20):
        CANCELLED.set()
    return b""


def was_cancelled(request, context):
    return b"yes" if CANCELLED.wait(10) else b"no"


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "t.T",
                {
                    "Unary": grpc.unary_unary_rpc_method_handler(unary),
                    "Fail": grpc.unary_unary_rpc_method_handler(fail),
                    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
                    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
                    "Both": grpc.stream_stream_rpc_method_handler(both),
                    "BrokenStream": grpc.unary_stream_rpc_method_handler(broken_stream),
                    "Slow": grpc.unary_unary_rpc_method_handler(slow),
                    "WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
                },
            ),
        )
    )
    states = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(states, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    # "SERVICE STATUS" per line; the end of input is ours.
    for line in sys.stdin:
        service, status = line.rstrip("\n").split(" ")
        states.set(service, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
        print("done", flush=True)
    server.stop(0)


def expect(call, code):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, error
        return error
    raise AssertionError(f"it went well, not {code}")


class Scenarios:
    def __init__(self, channel):
        self.u = lambda name: channel.unary_unary("/t.T/" + name)
        self.channel = channel

    def unary(self):
        for size in (0, 1, 5000, 1 << 20):
            answer, call = self.u("Unary").with_call(
                BIG[:size],
                timeout=20,
                metadata=(("x-given", "g"), ("x-given-bin", b"\0\1\xfe\xff")),
            )
            assert answer == BIG[:size]
            assert dict(call.initial_metadata())["x-initial"] == "g"
            trailing = dict(call.trailing_metadata())
            assert trailing["x-trailing"] == "t", trailing
            assert trailing["x-trailing-bin"] == b"\0\1\xfe\xff", trailing

    def many(self):
        calls = [self.u("Unary").future(b"%d" % i, timeout=20) for i in range(200)]
        assert [call.result() for call in calls] == [b"%d" % i for i in range(200)]

    def fails(self):
        error = expect(
            lambda: self.u("Fail")(b"", timeout=20), grpc.StatusCode.FAILED_PRECONDITION
        )
        assert error.details() == "so nicht: 100 % \u00fc", error.details()
        assert dict(error.trailing_metadata())["x-why-bin"] == b"\0\1\xff"
        expect(lambda: self.u("Nothing")(b"", timeout=20), grpc.StatusCode.UNIMPLEMENTED)

    def server_stream(self):
        answers = self.channel.unary_stream("/t.T/ServerStream")(b"2000", timeout=20)
        assert list(answers) == [b"%d" % i for i in range(2000)]
        answers = self.channel.unary_stream("/t.T/BrokenStream")(b"", timeout=20)
        assert next(answers) == b"0"
        expect(lambda: next(answers), grpc.StatusCode.DATA_LOSS)

    def client_stream(self):
        call = self.channel.stream_unary("/t.T/ClientStream")
        assert call((BIG[:1000] for _ in range(2000)), timeout=20) == b"2000 2000000"
        assert call(iter(()), timeout=20) == b"0 0"

    def both(self):
        # The next message is sent when the one before has come back.
        ready = threading.Semaphore(1)

        def requests():
            for i in range(200):
                assert ready.acquire(timeout=10)
                yield b"%d" % i

        answers = self.channel.stream_stream("/t.T/Both")(requests(), timeout=20)
        for i, answer in enumerate(answers):
            assert answer == b"%d" % i
            ready.release()
        assert i == 199

    def silent(self):
        # Both sides say nothing for longer than a body may stand still, and then go on.
        def requests():
            yield b"0"
            time.sleep(1.5)
            yield b"1"

        answers = self.channel.stream_stream("/t.T/Both")(requests(), timeout=20)
        assert list(answers) == [b"0", b"1"]

    def deadline(self):
        began = time.monotonic()
        expect(lambda: self.u("Slow")(b"", timeout=0.5), grpc.StatusCode.DEADLINE_EXCEEDED)
        assert time.monotonic() - began < 10
        assert self.u("WasCancelled")(b"", timeout=20) == b"yes"

    def proxy_timeout(self):
        error = expect(
            lambda: self.u("Slow")(b"", timeout=20), grpc.StatusCode.DEADLINE_EXCEEDED
        )
        assert "response-timeout" in error.details(), error.details()

    def unavailable(self):
        error = expect(
            lambda: self.u("Unary")(b"", timeout=20), grpc.StatusCode.UNAVAILABLE
        )
        assert sys.argv[4] in error.details(), error.details()

    def unimplemented(self):
        error = expect(
            lambda: self.u("Unary")(b"", timeout=20), grpc.StatusCode.UNIMPLEMENTED
        )
        assert "no-route" in error.details(), error.details()


if sys.argv[1] == "server":
    serve()
else:
    with grpc.insecure_channel(
        sys.argv[2], options=(("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))
    ) as channel:
        getattr(Scenarios(channel), sys.argv[3])()
