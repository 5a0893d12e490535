"""What a check has done: commands with time limits, comparisons with limits, figures, and what went wrong."""

import os
import shlex
import signal
import subprocess
import threading
import time
import traceback

# Lines of a failed command's output that the report shows.
TAIL = 40


class Failed(Exception):
    """A command did not do what the rest of the step needs."""


class Done:
    """A command that has ended."""

    def __init__(self, arguments, exit_code, seconds, timed_out, stdout, stderr):
        self.arguments, self.exit_code, self.seconds = arguments, exit_code, seconds
        self.timed_out, self.stdout, self.stderr = timed_out, stdout, stderr

    @property
    def ok(self):
        return self.exit_code == 0 and not self.timed_out

    def failure(self):
        if self.timed_out:
            return f"stopped after {self.seconds:.0f} s, its time limit"
        how = f"ended by signal {-self.exit_code}" if self.exit_code < 0 else f"exit code {self.exit_code}"
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        said = next((line for line in lines if line.startswith("error")), lines[-1] if lines else "")
        return f"{how}: {said}" if said else how


class Step:
    """One step of the check, in the form in which it goes into the report."""

    def __init__(self, check, name, title, limit):
        self.check, self.name, self.title, self.limit = check, name, title, limit
        self.verdict, self.seconds = "not run", 0.0
        self.commands, self.comparisons, self.figures, self.problems, self.notes = [], [], {}, [], []
        self.deadline = None

    def run(self, work):
        """Runs it; whatever happens is noted, and the next step can follow."""
        started = time.monotonic()
        self.deadline = min(started + self.limit, self.check.deadline)
        left_out = False
        if self.deadline - started < min(self.limit, 3):
            self.problems.append("no time was left for it")
            return
        try:
            left_out = work(self) is False
        except Failed as error:
            self.problems.append(str(error))
        except Exception as error:  # A mistake in a step must not end the others.
            self.problems.append(f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-3)}")
        self.seconds = time.monotonic() - started
        bad = self.problems or any(not comparison["passed"] for comparison in self.comparisons)
        timed_out = any(command["timed_out"] for command in self.commands)
        self.verdict = "timed out" if timed_out else "failed" if bad else "left out" if left_out else "passed"

    def left(self):
        """Seconds that are left for it."""
        return max(self.deadline - time.monotonic(), 0)

    def command(self, arguments, environment=None, stop_at=None, limit=None):
        """Runs a command to its end or the step's, and notes it. With `stop_at` it gets Ctrl-C when its messages hold that text."""
        arguments = [str(argument) for argument in arguments]
        changed = environment or {}
        done = run(arguments, {**self.check.environment, **changed}, self.check.work, min(limit or self.limit, self.left()), stop_at)
        names = ["ft" if word == self.check.binary else shlex.quote(word) for word in arguments]
        words = [f"{key}={shlex.quote(value)}" for key, value in changed.items()] + names
        self.commands.append(
            {
                "command": " ".join(words),
                "exit_code": done.exit_code,
                "seconds": round(done.seconds, 3),
                "timed_out": done.timed_out,
                "failed": not done.ok,
                "end_of_log": "" if done.ok else tail(done.stderr or done.stdout),
            }
        )
        self.check.log(self.name, self.commands[-1], done)
        return done

    def ft(self, *arguments, **more):
        """As `command`, of ft, and one that the rest of the step cannot do without."""
        done = self.command([self.check.binary, *arguments], **more)
        if not done.ok:
            device = " ".join(arguments[arguments.index("--device") :][:2])
            raise Failed(f"ft {arguments[0]} … {device}: {done.failure()}")
        return done

    def compare(self, what, value, limit, note=""):
        """Notes a difference that must not be larger than a limit. What is no number is too large."""
        passed = value is not None and value == value and value <= limit
        self.comparisons.append({"what": what, "value": value, "limit": limit, "passed": bool(passed), "note": note})

    def require(self, what, passed, otherwise=""):
        """Notes something that must be so, and what to say if it is not."""
        note = "" if passed else otherwise
        self.comparisons.append({"what": what, "value": None, "limit": None, "passed": bool(passed), "note": note})

    def report(self):
        keys = ["name", "title", "verdict", "seconds", "limit", "problems", "notes", "comparisons", "figures", "commands"]
        return {**{key: getattr(self, key) for key in keys}, "seconds": round(self.seconds, 3)}


def tail(text, lines=TAIL):
    return "\n".join(text.rstrip().splitlines()[-lines:])


def run(arguments, environment, folder, limit, stop_at=None):
    """Runs a command for at most `limit` seconds; all that it has started ends with it."""
    started = time.monotonic()
    try:
        # A session of its own: what it starts can be ended together.
        process = subprocess.Popen(
            arguments, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        return Done(arguments, 127, 0.0, False, "", f"cannot be started: {error}")
    texts = {"out": [], "err": []}

    def read(stream, lines):
        interrupted = False
        for line in iter(stream.readline, b""):
            lines.append(line.decode(errors="replace"))
            if stop_at and not interrupted and stop_at in lines[-1]:
                interrupted = True
                process.send_signal(signal.SIGINT)

    readers = [
        threading.Thread(target=read, args=(stream, texts[name]), daemon=True) for name, stream in (("out", process.stdout), ("err", process.stderr))
    ]
    for reader in readers:
        reader.start()
    timed_out = False
    try:
        process.wait(timeout=max(limit, 0.01))
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        # Also where the check itself is ended.
        if process.poll() is None:
            end(process)
    for reader in readers:
        reader.join(timeout=2)
    code = process.returncode if process.returncode is not None else -signal.SIGKILL
    return Done(arguments, code, time.monotonic() - started, timed_out, "".join(texts["out"]), "".join(texts["err"]))


def end(process):
    """Ends a process and what it has started. One that hangs in the driver does not even end when it is killed, and is left behind."""
    for number, patience in ((signal.SIGTERM, 2), (signal.SIGKILL, 3)):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=patience)
            return
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
