"""Run a command in a pod's container, as `kubectl exec` does, with bytes in and out as they arrive.

    stdin -> websocket -> the command -> stdout, stderr (written as they arrive) -> its exit status

Pods are not started here, and the command gets no terminal. The end of stdin needs a cluster of 1.30 or
newer.
"""

import io
import json
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from modelops_dask.errors import ClusterFailed
from modelops_dask.kube.connect import Cluster, api_request

if TYPE_CHECKING:
    from kubernetes.stream.ws_client import WSClient

STDOUT, STDERR, STATUS = 1, 2, 3  # channels of the protocol; the first byte of a message
CHUNK_BYTES = 1 << 16


class CommandLost(ClusterFailed):
    """A command in a pod returned no exit status: the pod or the connection was lost."""

    def __init__(self, pod: str, reason: str) -> None:
        super().__init__(pod, reason)
        self.pod = pod
        self.reason = reason

    def __str__(self) -> str:
        return f"Lost the command that ran in pod {self.pod}: {self.reason}"


class CommandFailed(ClusterFailed):
    """A command in a pod ended with a nonzero status; `stderr_text` is its output there."""

    def __init__(self, pod: str, command: Sequence[str], status: int, stderr_text: str) -> None:
        super().__init__(pod, command, status, stderr_text)
        self.pod = pod
        self.command = tuple(command)
        self.status = status
        self.stderr_text = stderr_text

    def __str__(self) -> str:
        program = " ".join(self.command[:3])
        return f"{program} in pod {self.pod} ended with status {self.status}:\n{self.stderr_text.strip()}"


def run(
    cluster: Cluster,
    pod: str,
    command: Sequence[str],
    stdout: BinaryIO,
    stderr: BinaryIO,
    *,
    stdin: BinaryIO | None = None,
    container: str = "",
) -> int:
    """Run a command in a pod and return its exit status; its output is written as it arrives.

    stdin is sent to its end, and the command must read all of it, or the cluster waits forever. Raises
    RequestRefused if the pod does not exist, CommandLost if the command cannot start or its pod is lost.
    """
    with api_request(f"run {command[0]} in pod {pod}", cluster.context):
        client = _open(cluster, pod, command, container, stdin is not None)
    sinks = {STDOUT: stdout, STDERR: stderr}
    try:
        if stdin is not None:
            threading.Thread(target=_feed, args=(client, stdin), daemon=True).start()
        for channel, data in _messages(client, pod):
            if channel in sinks:
                sinks[channel].write(data)
            elif channel == STATUS:
                return _exit_status(json.loads(data), pod)
        raise CommandLost(pod, "it ended without a status")
    finally:
        client.close()


def output(cluster: Cluster, pod: str, command: Sequence[str], stdin: bytes = b"") -> bytes:
    """Return the output of a command in a pod. Raises CommandFailed if its exit status is not 0."""
    stdout, stderr = io.BytesIO(), io.BytesIO()
    status = run(cluster, pod, command, stdout, stderr, stdin=io.BytesIO(stdin) if stdin else None)
    if status != 0:
        raise CommandFailed(pod, command, status, stderr.getvalue().decode(errors="replace"))
    return stdout.getvalue()


def _open(cluster: Cluster, pod: str, command: Sequence[str], container: str, stdin: bool) -> "WSClient":
    from kubernetes.client import ApiClient, CoreV1Api
    from kubernetes.stream import stream

    core = CoreV1Api(ApiClient(cluster.api.configuration))  # stream() changes its client for the call
    return stream(
        core.connect_get_namespaced_pod_exec,
        pod,
        cluster.namespace,
        command=list(command),
        stdin=stdin,
        stdout=True,
        stderr=True,
        tty=False,
        binary=True,
        _preload_content=False,
        **({"container": container} if container else {}),
    )


def _messages(client: "WSClient", pod: str) -> Iterator[tuple[int, bytes]]:
    """Channel and bytes of each message, until the other side closes."""
    from websocket import ABNF, WebSocketException

    while True:
        try:
            kind, frame = client.sock.recv_data_frame(control_frame=True)
        except (WebSocketException, OSError) as error:
            raise CommandLost(pod, str(error)) from None
        if kind == ABNF.OPCODE_CLOSE:
            return
        if kind in (ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT) and len(frame.data) > 1:
            yield frame.data[0], frame.data[1:]


def _feed(client: "WSClient", stdin: BinaryIO) -> None:
    """Send stdin and its end. A command may end before it has read everything: then sending fails."""
    from websocket import WebSocketException

    try:
        while chunk := stdin.read(CHUNK_BYTES):
            client.write_stdin(chunk)
        client.close_channel(0)
    except (WebSocketException, OSError):
        return


def _exit_status(status: dict[str, Any], pod: str) -> int:
    """The exit status in the Status object that ends a command."""
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise CommandLost(pod, status.get("message") or "it ended without a status")
