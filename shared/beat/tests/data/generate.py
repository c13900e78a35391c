"""Asks Celery when schedules are due, and writes its answers for the tests of this crate.

    pip install celery==5.7.0 tzdata && python generate.py > celery-answers.jsonl

Each line is one case:
    ["parse", max, min, "text", [numbers] or null]        null: Celery refuses the text
    ["crontab", [minute, hour, day_of_week, day_of_month, month_of_year], zone, last, now, due, next]
    ["interval", seconds, relative, zone, last, now, due, next]
    ["behind", [as crontab], zone, last]
Times are microseconds since the epoch, `next` is microseconds from `now`. "behind" are cases in which Celery's own answer
lies before the last run (in the second pass through a repeated hour): it would send without end until the hour is over.
"""

import json
import random
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from celery import Celery
from celery.schedules import crontab, crontab_parser, schedule

UTC = timezone.utc
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/St_Johns", "Asia/Kolkata",
         "America/Havana", "Asia/Beirut", "America/Sao_Paulo", "Pacific/Apia"]
APPS = {zone: Celery(f"zone-{number}", broker="memory://", set_as_current=False) for number, zone in enumerate(ZONES)}
for zone, app in APPS.items():
    app.conf.timezone = zone
pick = random.Random(20260101)


def emit(*case):
    print(json.dumps(case, separators=(",", ":")))


def micros(time):
    return round((time - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


# The grammar of one field.
TEXTS = """* 0 1 5 7 12 13 23 24 31 32 59 60 99 1,2 1,2,1 1- -1 - , 1, ,1 1,,2 */2 */5 */15 */1 */0 */7 */60 */61 */x */ / /2 1/2
5/10 1-5 5-1 1-5/2 5-1/2 50-10/7 0-59 22-2 22-2/3 6-7 0-7 10-10 1-5/0 1-5/ 1-5/x 1-5-9 *-5 5-* ** *5 5* *,5 5,* 1-3,7-9 mon
monday MON Monday mond mo sun sunday sat tue-thu fri-mon sat-sun sun-sat mon-fri/2 mon,wed,fri jan january JAN-mar nov-feb
jan,jul sep-dec/2 mar-mon may thurs abc jan-mon 0x1 1.5 +1 1e1 1_0 01 007 *\x20 \x201 1\x20 1-\x205 */\x202 */02 */mon 1-5/mon
*/5-10 1-5/2/3 */2,*/3 1-10/3,40-50/5 ١ ²""".split()
TEXTS += ["", " ", "1 - 5", "* /2", "*/2 ", "mon tue", "mon, tue", "1, 2", "1 ,2", "1-5 /2", "\t1", "1\n"]
for maximum, minimum in [(60, 0), (24, 0), (7, 0), (31, 1), (12, 1)]:
    for text in TEXTS:
        text = text.replace("\\x20", " ")
        try:
            numbers = sorted(crontab._expand_cronspec(text, maximum, minimum))
        except Exception:
            numbers = None
        emit("parse", maximum, minimum, text, numbers)

# Whole crontabs at many times.
FIELDS = [
    ("*", "*", "*", "*", "*"), ("0", "*", "*", "*", "*"), ("30", "*", "*", "*", "*"), ("*/15", "*", "*", "*", "*"),
    ("0", "0", "*", "*", "*"), ("30", "2", "*", "*", "*"), ("30", "1", "*", "*", "*"), ("0", "4", "*", "*", "*"),
    ("0", "3", "*", "*", "*"), ("15", "0", "*", "*", "*"), ("*/10", "2", "*", "*", "*"), ("*/20", "1-3", "*", "*", "*"),
    ("0", "*/3", "*", "*", "*"), ("0", "22-2", "*", "*", "*"), ("5", "0", "*", "1", "*"), ("0", "12", "*", "31", "*"),
    ("0", "12", "*", "29", "2"), ("0", "0", "*", "29", "*"), ("0", "0", "*", "30", "*"), ("0", "0", "mon", "29", "2"),
    ("30", "7", "mon-fri", "*", "*"), ("0", "0", "sun", "*", "*"), ("0", "0", "sat,sun", "*", "*"),
    ("0", "0", "fri-mon", "*", "*"), ("0", "9", "mon", "1-7", "*"), ("0", "9", "fri", "13", "*"),
    ("0", "0", "*", "1,15", "*"), ("0", "0", "*", "*", "1"), ("0", "0", "*", "*", "*/3"), ("59", "23", "*", "31", "12"),
    ("0", "0", "*", "1", "1"), ("0", "0", "*", "*", "feb"), ("*/5", "8-17", "1-5", "*", "jan-mar"),
    ("0", "2", "sun", "8-14", "3"), ("0,30", "2", "*", "25-31", "mar,oct"), ("15,45", "1,2,3", "0", "*", "*"),
    ("0", "0", "*", "30", "12"), ("30", "0", "*", "30-31", "*"), ("1-59/2", "*", "*", "*", "*"),
    ("0", "0", "*", "31", "apr-jun"), ("50-10/5", "*", "*", "*", "*"), ("0", "0", "*", "28-1", "*"), ("0", "0", "*", "*", "11-2"),
]
MOMENTS = ["2000-02-28T23:59:30", "2020-02-28T12:00:00", "2020-02-29T00:00:00", "2023-02-28T23:59:59.999999", "2019-12-31T23:59:00",
           "2021-01-31T12:34:56.789", "2022-04-30T00:00:00", "2024-03-31T00:59:59", "2024-03-31T01:30:00", "2024-10-27T00:15:00",
           "2024-10-26T22:00:01", "2023-03-12T06:59:00", "2023-11-05T05:29:00", "2023-11-04T05:10:00", "2018-11-03T23:00:00",
           "2022-03-26T21:59:59", "2020-04-04T14:40:00", "2020-10-03T15:10:00", "2011-12-29T11:00:00", "2023-06-15T08:00:00",
           "2016-02-29T23:59:59", "2007-03-11T03:30:00", "2006-10-28T20:30:00"]
LATER = [timedelta(microseconds=1), timedelta(seconds=20), timedelta(minutes=1), timedelta(minutes=45), timedelta(hours=1),
         timedelta(hours=7, minutes=1), timedelta(days=1), timedelta(days=9), timedelta(days=40), timedelta(days=500)]



def random_field(low, high):
    a, b = sorted(pick.sample(range(low, high + 1), 2))
    return pick.choice(["*", "*", str(a), f"{a}-{b}", f"{b}-{a}", f"{a},{b}", f"*/{pick.randint(1, high)}",
                        f"{a}-{b}/{pick.randint(1, 5)}"])


for _ in range(260):
    FIELDS.append((random_field(0, 59), random_field(0, 23), random_field(0, 6), random_field(1, 31), random_field(1, 12)))


def crontab_case(fields, zone, last, now):
    try:
        cron = crontab(*fields, app=APPS[zone], nowfun=lambda: now.astimezone(ZoneInfo(zone)))
    except ValueError:
        return
    local = last.astimezone(ZoneInfo(zone))
    try:
        due, wait = cron.is_due(local)
        first = now + cron.remaining_estimate(local)
        second = now + cron.remaining_estimate(now.astimezone(ZoneInfo(zone)))
    except RuntimeError:
        return
    if first <= last:
        emit("behind", fields, zone, micros(last))
    elif not (due and second <= now):
        emit("crontab", fields, zone, micros(last), micros(now), due, round(wait * 1e6))


def parsed(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


for count, fields in enumerate(FIELDS):
    for turn in range(14 if count < 43 else 5):
        zone = pick.choice(ZONES) if turn else "UTC"
        last = parsed(pick.choice(MOMENTS)) + timedelta(seconds=pick.choice([0, 0, 1, 59, 1800, 3600, 5400]))
        crontab_case(fields, zone, last, last + pick.choice(LATER))
# Every half hour through the days on which clocks change.
for zone, start in [("Europe/Berlin", "2024-03-30T22:00:00"), ("Europe/Berlin", "2024-10-26T21:00:00"),
                    ("America/New_York", "2023-03-12T04:00:00"), ("America/New_York", "2023-11-05T03:00:00"),
                    ("Australia/Lord_Howe", "2020-04-04T12:00:00"), ("America/Havana", "2023-11-05T03:00:00"),
                    ("Asia/Beirut", "2022-03-26T20:00:00"), ("America/Sao_Paulo", "2018-11-04T01:00:00")]:
    for fields in [("*/15", "*", "*", "*", "*"), ("30", "2", "*", "*", "*"), ("30", "1", "*", "*", "*"), ("0", "*", "*", "*", "*"),
                   ("15", "0", "*", "*", "*"), ("0", "0", "*", "*", "*"), ("30", "1-2", "*", "25-31", "*")]:
        for step in range(0, 14):
            last = parsed(start) + timedelta(minutes=30 * step, seconds=step)
            crontab_case(fields, zone, last, last + timedelta(minutes=pick.choice([1, 29, 61, 600])))

# Intervals, and intervals rounded to their unit.
for _ in range(700):
    zone = pick.choice(ZONES)
    relative = pick.random() < 0.75
    seconds = pick.choice([0.5, 1, 10, 30, 45, 60, 61, 90, 120, 300, 900, 1800, 3600, 5400, 7200, 36000, 86400, 90000, 172800,
                           604800])
    # Celery rounds half a second down to before the last run, and is due at once.
    relative = relative and seconds >= 1
    last = parsed(pick.choice(MOMENTS)) + timedelta(seconds=pick.choice([0, 0.25, 1, 59, 1800, 3600, 5400]))
    now = last + pick.choice(LATER + [timedelta(seconds=seconds), timedelta(seconds=seconds / 2)])
    every = schedule(seconds, relative=relative, app=APPS[zone], nowfun=lambda: now.astimezone(ZoneInfo(zone)))
    due, wait = every.is_due(last.astimezone(ZoneInfo(zone)))
    emit("interval", seconds, relative, zone, micros(last), micros(now), due, round(wait * 1e6))
