"""Contacts in a database in a file with a temporary name."""

import json
import random
import sqlite3
import tempfile
from pathlib import Path


def wire(entrypoint, params, seed):
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        base = sqlite3.connect(Path(folder, "contacts.db"))
        base.execute("create table contact (a integer, b integer)")
        pairs = [(rng.randrange(50), rng.randrange(50)) for _ in range(params["contacts"])]
        base.executemany("insert into contact values (?, ?)", pairs)
        rows = base.execute("select a, count(distinct b) from contact group by a order by a").fetchall()
        base.close()
    return {"degrees": json.dumps(rows).encode()}
