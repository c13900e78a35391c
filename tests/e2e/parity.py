"""What of Celery there is: makes `docs/celery-parity.md` from the installed Celery's own lists and `parity.json`.

    python tests/e2e/parity.py --write     # the page, and the defaults that the command `conf` tells
    python tests/e2e/parity.py             # says what is missing or no longer known, and whether the page is as it would be made

Settings, flags, commands, events and states are read from Celery; `parity.json` says of each whether it is here, and why not.
`test_parity.py` checks that the worker agrees.
"""
import datetime
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent.parent / "docs/celery-parity.md"
DEFAULTS = HERE.parent.parent / "shared/engine/src/control/conf_defaults.json"
MARKS = {"yes": "✔", "part": "part", "no": "no"}


def flags():
    """Long name of each flag of `celery worker`, with its short one."""
    from celery.bin.worker import worker
    found = {}
    for parameter in worker.params:
        names = [name for name in (*parameter.opts, *parameter.secondary_opts)]
        long = [name for name in names if name.startswith("--") and name != "--help"]
        if long:
            found[long[0]] = names
    return found


def settings():
    from celery.app.defaults import DEFAULTS
    return sorted(DEFAULTS)


def commands():
    """Each command with its kind."""
    from celery.worker.control import Panel
    return {name: meta.type for name, meta in sorted(Panel.meta.items())}


def states():
    from celery import states
    return sorted({value for name, value in vars(states).items() if name.isupper() and isinstance(value, str)})


def events():
    """The event types that Celery's own code sends."""
    import celery
    found = set()
    for file in Path(celery.__file__).parent.rglob("*.py"):
        found |= set(re.findall(r"""['"]((?:task|worker)-[a-z]+(?:-[a-z]+)?)['"]""", file.read_text(encoding="utf-8")))
    return sorted(name for name in found if name not in ("task-list", "task-clear", "task-id", "worker-options"))


def verdicts():
    return json.loads((HERE / "parity.json").read_text(encoding="utf-8"))


def verdict(section, name):
    """(yes, part or no; why) of one thing, by its name or by the longest prefix `…*`."""
    table = verdicts()[section]
    if name in table:
        found = table[name]
    else:
        prefixes = [key for key in table if key.endswith("*") and name.startswith(key[:-1])]
        if not prefixes:
            return None
        found = table[max(prefixes, key=len)]
    return (found, "") if isinstance(found, str) else tuple(found)


def lists():
    return {
        "features": list(verdicts()["features"]), "states": states(), "events": events(), "commands": list(commands()),
        "flags": list(flags()), "settings": settings(),
    }


def problems():
    found = []
    for section, names in lists().items():
        found += [f"{section}: nothing is said of {name}" for name in names if verdict(section, name) is None]
        known = set(names)
        found += [f"{section}: Celery does not know {name}" for name in verdicts()[section]
                  if section != "features" and not name.endswith("*") and name not in known]
    return found


TITLES = {
    "features": ("Messages, results and canvas", "feature"), "states": ("States", "state"), "events": ("Events", "event"),
    "commands": ("Remote control", "command"), "flags": ("Flags of `celery worker`", "flag"), "settings": ("Settings", "setting"),
}


def page(date):
    import celery
    import kombu
    counts, sections = {}, []
    for section, names in lists().items():
        title, what = TITLES[section]
        rows = []
        for name in names:
            mark, why = verdict(section, name)
            counts.setdefault(section, {"yes": 0, "part": 0, "no": 0})[mark] += 1
            shown = name if section == "features" else f"`{name}`"
            if section == "flags":
                shown = ", ".join(f"`{one}`" for one in flags()[name])
            rows.append(f"| {shown} | {MARKS[mark]} | {why} |")
        sections.append(f"## {title}\n| {what} | | |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    summary = "\n".join(f"| {TITLES[section][0]} | {count['yes']} | {count['part']} | {count['no']} |"
                        for section, count in counts.items())
    return f"""# What of Celery there is
As of {date}, against Celery {celery.__version__} and kombu {kombu.__version__}. Made by `tests/e2e/parity.py --write` from
Celery's own lists; `tests/e2e/test_parity.py` checks that the worker agrees. A setting is given by the environment, under its
name in upper case, also with `CELERY_` in front.

| | ✔ | part | no |
|---|---|---|---|
{summary}

""" + "\n".join(sections)


def conf_defaults():
    """Every setting with its default, as Celery's own reply to `conf` shows it."""
    from celery import Celery
    from celery.utils.serialization import jsonify
    from celery.worker.control import _wanted_config_key
    from kombu.utils.encoding import safe_repr
    app = Celery("defaults", set_as_default=False)
    table = jsonify(app.conf.table(with_defaults=True), keyfilter=_wanted_config_key, unknown_type_filter=safe_repr)
    for own in ("deprecated_settings", "set_as_default", "broker_url", "broker_read_url", "broker_write_url"):
        table.pop(own, None)
    return json.dumps(table, indent=1, sort_keys=True) + "\n"


def undated(text):
    return re.sub(r"As of [0-9-]*,", "As of,", text)


def main():
    found = problems()
    if "--write" in sys.argv and not found:
        PAGE.write_text(page(datetime.date.today().isoformat()), encoding="utf-8")
        DEFAULTS.write_text(conf_defaults(), encoding="utf-8")
    elif not found:
        if not PAGE.exists() or undated(PAGE.read_text(encoding="utf-8")) != undated(page("")):
            found.append(f"{PAGE.name} is not as it would be made: run parity.py --write")
        if DEFAULTS.read_text(encoding="utf-8") != conf_defaults():
            found.append(f"{DEFAULTS.name} is not as it would be made: run parity.py --write")
    print("\n".join(found) or "nothing is missing")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
