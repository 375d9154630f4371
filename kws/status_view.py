"""A snapshot of the daemon as text. What it does not hold is left out; null is shown as "unavailable"."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from kws.protocol import Message

UNAVAILABLE = "unavailable"

_LABEL_CELLS = 12
_SPANS = {"recent": "last 5 minutes", "since_start": "since start"}
_QUANTILES = ("p50", "p95", "p99", "max")
_COUNTS = {
    "detections": "heard",
    "near_misses": "near",
    "false_accepts": "false",
    "missed": "missed",
    "per_hour": "per hour",
}
_LAST_EVENTS = 5


def text(snapshot: Message) -> str:
    """Everything, in lines of a label and its figures; what matters most comes first."""
    lines = list(_daemon(snapshot))
    for key, label, section in _SECTIONS:
        if snapshot.get(key) is not None:
            lines += _row(label, *section(snapshot))
        elif key in snapshot:
            lines += _row(label, UNAVAILABLE)
    return "\n".join(lines)


def headline(snapshot: Message) -> str:
    """State and its reason, in one line."""
    state = str(snapshot.get("state") or UNAVAILABLE)
    if snapshot.get("muted_until"):
        state += f" until {clock(snapshot['muted_until'])}"
    reason = snapshot.get("reason")
    return f"{state}: {reason}" if reason else state


def duration(seconds: float | None) -> str:
    """`8.2 s`, `45 s`, `12 min`, `3 h 5 min`, `12 d 3 h`."""
    if seconds is None:
        return UNAVAILABLE
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def number(value: float | None, unit: str = "", digits: int = 0) -> str:
    """A figure with its unit, or that there is none."""
    if value is None:
        return UNAVAILABLE
    return f"{value:.{digits}f} {unit}".rstrip()


def percent(share: float | None) -> str:
    """A share of 1, with a digit where it matters."""
    if share is None:
        return UNAVAILABLE
    return f"{100 * share:.1f} %" if 0 < share < 0.1 else f"{100 * share:.0f} %"


def watts(figure: Message | None) -> str:
    """`5.2 mW (estimated: CPU time and board table)`: a watt never goes without its kind and basis."""
    if not figure or figure.get("watts") is None:
        basis = (figure or {}).get("basis")
        return f"{UNAVAILABLE} ({basis})" if basis else UNAVAILABLE
    value = figure["watts"]
    amount = f"{value:.2f} W" if value >= 1 else f"{1000 * value:.{1 if value < 0.1 else 0}f} mW"
    basis = f": {figure['basis']}" if figure.get("basis") else ""
    return f"{amount} ({figure.get('kind') or UNAVAILABLE}{basis})"


def clock(iso: str | None) -> str:
    """Local time of day; with the date, if that is another day."""
    if iso is None:
        return UNAVAILABLE
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone()
    today = moment.date().isoformat() == time.strftime("%Y-%m-%d")
    return moment.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")


def event_line(event: Message) -> str:
    """`12:03:44  computer  0.98`; a near miss and a change of state say so."""
    moment = clock(event.get("wall_time"))
    if event.get("keyword") is None:
        why = event.get("reason") or event.get("error") or ""
        return f"{moment}  {event.get('state') or event.get('event')}  {why}".rstrip()
    name = event.get("event") or ""
    kind = "" if name in ("", "detection") else f"  {name.replace('-', ' ')}"
    return f"{moment}  {event['keyword']}  {number(event.get('score'), digits=2)}{kind}"


def _row(label: str, *figures: str) -> Iterator[str]:
    """A label in front of the first line; the others stand below it."""
    for figure in figures:
        yield f"{label:<{_LABEL_CELLS}}{figure}".rstrip()
        label = ""


def _daemon(snapshot: Message) -> Iterator[str]:
    about = [
        f"running for {duration(snapshot['uptime_s'])}" if "uptime_s" in snapshot else "",
        f"version {snapshot['kws']}" if snapshot.get("kws") else "",
        f"instance {snapshot['instance']}" if snapshot.get("instance") else "",
        f"process {snapshot['pid']}" if snapshot.get("pid") else "",
    ]
    yield from _row("kws", headline(snapshot), ", ".join(filter(None, about)))


def _microphone(snapshot: Message) -> Iterator[str]:
    microphone = snapshot["microphone"]
    yield str(microphone.get("name") or f"name {UNAVAILABLE}")
    channels, pick = number(microphone.get("channels")), microphone.get("pick")
    form = f"channel {pick} of {channels}" if isinstance(pick, int) else f"channels {channels}"
    mixed = "" if pick is None or isinstance(pick, int) else f", mixed: {pick}"
    yield f"rate {number(microphone.get('device_rate_hz'), 'Hz')}, {form}{mixed}"
    yield from _reasons(microphone)


def _audio(snapshot: Message) -> Iterator[str]:
    audio = snapshot["audio"]
    level, floor = number(audio.get("level_dbfs"), "dBFS"), number(audio.get("floor_dbfs"), "dBFS")
    yield f"level {level}, background {floor}"
    yield f"received {duration(audio.get('received_s'))} of {duration(audio.get('expected_s'))}"
    counts = (f"{name} {number(audio.get(name))}" for name in ("gaps", "overflows", "reopens"))
    yield f"lost {number(audio.get('lost_ms'), 'ms')}, {', '.join(counts)}"
    yield f"dead silence {duration(audio.get('silent_s'))}"


def _gate(snapshot: Message) -> Iterator[str]:
    gate = snapshot["gate"]
    if gate.get("enabled") is False:
        yield "off: everything is analysed"
    else:
        yield f"open {percent(gate.get('duty_cycle'))}, quiet skipped {duration(gate.get('skipped_s'))}"


def _keywords(snapshot: Message) -> Iterator[str]:
    keywords = snapshot["keywords"]
    cells = max([16, *(len(keyword) + 2 for keyword in keywords)])
    yield f"{'':<{cells}}" + "".join(f"{title:>10}" for title in _COUNTS.values())
    for keyword, counts in keywords.items():
        figures = [(counts or {}).get(name) for name in _COUNTS]
        shown = ["-" if f is None else f"{f:.2f}" if isinstance(f, float) else str(f) for f in figures]
        yield f"{keyword:<{cells}}" + "".join(f"{figure:>10}" for figure in shown)


def _last(snapshot: Message) -> Iterator[str]:
    events = snapshot["last_events"]
    yield from map(event_line, reversed(events[-_LAST_EVENTS:]))
    if not events:
        yield "nothing yet"


def _power(snapshot: Message) -> Iterator[str]:
    power = snapshot["power"]
    yield f"this program {watts(power.get('daemon'))}"
    yield f"machine {watts(power.get('machine'))}"
    energy = power.get("energy_per_day_wh") or {}
    daemon, machine = number(energy.get("daemon"), "Wh", 2), number(energy.get("machine"), "Wh", 1)
    yield f"a day: this program {daemon}, machine {machine}"
    yield from _reasons(power)


def _cost(snapshot: Message) -> Iterator[str]:
    cpu = snapshot["cpu"]
    yield f"CPU {number(cpu.get('ms_per_s'), 'ms a second', 1)}"
    yield f"wake-ups {number(cpu.get('wakeups_per_s'), 'a second')}"
    yield f"memory {number(cpu.get('rss_mb'), 'MB')}, threads {number(cpu.get('threads'))}"


def _real_time(snapshot: Message) -> Iterator[str]:
    factor = snapshot["real_time_factor"]
    yield f"factor {factor:.4f}: computing takes {percent(factor)} of the time that the audio takes"


def _latency(snapshot: Message) -> Iterator[str]:
    latency = snapshot["latency_ms"]
    spans = [latency.get(span) or {} for span in _SPANS]
    rows = {
        stage: [(span.get(stage) or {}).get(quantile) for span in spans for quantile in _QUANTILES]
        for stage in dict.fromkeys(stage for span in spans for stage in span)
    }
    if all(figure is None for figures in rows.values() for figure in figures):
        yield f"{UNAVAILABLE}: nothing was heard yet"
        return
    yield f"{'ms':<10}" + "".join(f"   {title:<25}" for title in _SPANS.values())
    yield f"{'':<10}" + "".join(f"{quantile:>7}" for quantile in _QUANTILES) * len(_SPANS)
    for stage, figures in rows.items():
        yield f"{stage:<10}" + "".join(f"{_milliseconds(figure):>7}" for figure in figures)


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _machine(snapshot: Message) -> Iterator[str]:
    machine = snapshot["machine"]
    throttled = machine.get("throttled")
    yield machine.get("board") or f"board {UNAVAILABLE}"
    state = UNAVAILABLE if throttled is None else ", ".join(throttled) or "no"
    yield f"temperature {number(machine.get('temperature_c'), '°C', 1)}, throttled: {state}"


def _model(snapshot: Message) -> Iterator[str]:
    model = snapshot["model"]
    sha256 = model.get("sha256")
    yield f"{model.get('name') or UNAVAILABLE}, sha256 {sha256[:12] if sha256 else UNAVAILABLE}"
    yield f"folder {model.get('folder') or UNAVAILABLE}"
    thresholds = (model.get("thresholds") or {}).items()
    yield f"thresholds: {', '.join(f'{k} {number(t, digits=3)}' for k, t in thresholds) or UNAVAILABLE}"
    yield from _reasons(model)


def _config(snapshot: Message) -> Iterator[str]:
    config = snapshot["config"]
    yield f"{config.get('path') or 'none: the defaults are in force'}, read at {clock(config.get('loaded'))}"
    yield from _reasons(config)
    if config.get("error"):
        yield f"REFUSED, the one before stays in force: {config['error']}"


def _captures(snapshot: Message) -> Iterator[str]:
    captures = snapshot["captures"]
    if captures.get("enabled") is False:
        yield "off: no audio is kept"
    else:
        yield f"files {number(captures.get('files'))}, size {number(captures.get('mb'), 'MB', 1)}"


def _subscribers(snapshot: Message) -> Iterator[str]:
    yield f"subscribers {snapshot['subscribers']}"


def _reasons(section: Message) -> Iterator[str]:
    """Why it is as it is: a sentence, or several, each in its line."""
    reason = section.get("reason")
    yield from reason.split("; ") if reason else ()


_SECTIONS = (
    ("microphone", "microphone", _microphone),
    ("audio", "audio", _audio),
    ("gate", "gate", _gate),
    ("keywords", "keywords", _keywords),
    ("last_events", "last", _last),
    ("power", "power", _power),
    ("cpu", "cost", _cost),
    ("real_time_factor", "real time", _real_time),
    ("latency_ms", "latency", _latency),
    ("machine", "machine", _machine),
    ("model", "model", _model),
    ("config", "config", _config),
    ("captures", "captures", _captures),
    ("subscribers", "events", _subscribers),
)
