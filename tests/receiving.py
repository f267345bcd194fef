"""A receiver process and what it has kept, for tests of the receiver from outside."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

import psutil

from node.ledger import Ledger, open_ledger
from node.records import ReceivedInstance
from node.spool import Spool

REPOSITORY = Path(__file__).resolve().parent.parent
START_WITHIN_S = 60


class Receiver:
    """``with Receiver(folder) as receiver:`` runs one on ``receiver.port`` until the block ends."""

    def __init__(self, folder: Path, *, pause_at: str = "", database_url: str = "", **settings: object) -> None:
        self._folder = folder
        self._database_url = database_url or f"sqlite:///{folder / 'data' / 'node.db'}"
        self._pause_at = pause_at
        self._settings = {"minimum_free_mb": 0} | settings
        self._said: queue.Queue[str] = queue.Queue()
        self.log_file = folder / "receiver.log"

    def __enter__(self) -> Receiver:
        self.start()
        return self

    def start(self) -> None:
        """Starts the process and waits until it accepts associations."""
        lines = [f"{name} = {_toml(value)}" for name, value in self._settings.items()]
        toml = self._folder / "node.toml"
        node = f'[node]\ndata_dir = "{self._folder / "data"}"\ndatabase_url = "{self._database_url}"\n'
        toml.write_text(node + "[receiver]\n" + "\n".join(lines), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "tests.receiver_program",
            str(toml),
            *([self._pause_at] if self._pause_at else []),
        ]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, cwd=REPOSITORY, env=dict(os.environ), text=True
            )
        self._listener = threading.Thread(target=self._listen_to_it, daemon=True)
        self._listener.start()
        try:
            self.tls_port, self.port = (self._port(word) for word in ("tls_port", "port"))
        except AssertionError:
            self.kill()  # nobody leaves a context that was never entered
            raise

    def _port(self, word: str) -> int:
        said = self.wait_for(word)
        return 0 if said == "None" else int(said)

    def _listen_to_it(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._said.put(line.strip())

    def wait_for(self, word: str) -> str:
        """The rest of the line that begins with ``word``."""
        while True:
            try:
                line = self._said.get(timeout=START_WITHIN_S)
            except queue.Empty:
                raise AssertionError(f"the receiver never said {word!r}:\n{self.log}") from None
            if line.startswith(word):
                return line.removeprefix(word).strip()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._ended()

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        self._process.kill()
        self._ended()

    def _ended(self) -> int:
        status = self._process.wait(timeout=20)
        self._listener.join(timeout=20)
        return status

    def wait_for_log(self, words: str) -> None:
        """Returns when the words are in the log: lines about the end of an association come a moment after it."""
        deadline = time.monotonic() + 10
        while words not in self.log:
            assert time.monotonic() < deadline, f"not in the log: {words}\n{self.log}"
            time.sleep(0.05)

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    @property
    def rss_mb(self) -> float:
        return float(psutil.Process(self._process.pid).memory_info().rss / 2**20)

    @property
    def threads(self) -> int:
        return int(psutil.Process(self._process.pid).num_threads())

    @property
    def open_files(self) -> int:
        """Files and connections."""
        return int(psutil.Process(self._process.pid).num_fds())

    @property
    def loaded_files(self) -> set[str]:
        """Names of the shared libraries in its memory."""
        return {Path(mapped.path).name for mapped in psutil.Process(self._process.pid).memory_maps()}

    @property
    def spool(self) -> Spool:
        return Spool(self._folder / "data" / "spool", minimum_free_bytes=0)

    def ledger(self) -> Ledger:
        return open_ledger(self._database_url)

    def kept(self) -> dict[str, bytes]:
        """The content of each image in the ledger, by SOP Instance UID, as its file has it now."""
        return {uid: path.read_bytes() for uid, path in self.kept_files().items()}

    def kept_files(self) -> dict[str, Path]:
        """The file of each image in the ledger, by SOP Instance UID."""
        ledger = self.ledger()
        images: list[ReceivedInstance] = [
            image for study in ledger.open_studies() for image in ledger.instances(study.study_id)
        ]
        ledger.close()
        spool = self.spool
        return {image.sop_instance_uid: spool.absolute(image.path) for image in images}


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return str(value) if isinstance(value, int | float) else f'"{value}"'
