"""What to change in params.yaml where a machine has GPUs that are not used."""

from pathlib import Path

from darkroom.system.params import Run


def advice(run: Run, devices: Path = Path("/dev")) -> str:
    """A sentence about the GPUs of this machine; "" if there is none, or if the section `run` uses it.

    torch is not asked, because its import takes seconds: NVIDIA's driver shows its GPUs as files.
    """
    count = len([path for path in devices.glob("nvidia*") if path.name.removeprefix("nvidia").isdecimal()])
    if not count or run.device == "cuda":
        return ""
    shards = 1 << (count.bit_length() - 1)
    return (
        f"this machine has {count} GPU{'s' if count > 1 else ''}, and the trainings use none. To use "
        f"{'them' if count > 1 else 'it'}, set in params.yaml: run.device to cuda, run.shards to {shards}, run.mode to native, "
        "run.precision to bfloat16, and both batch_size to 128 or more. The results then belong to this kind of GPU: see "
        "docs/how-to/more-cores.md"
    )
