"""Task messages as Python's Celery puts them into Redis: protocol 2, JSON."""
import base64
import json
import uuid

QUEUE = 'celery'
META = 'celery-task-meta-'
STAGED = 'benches.staged'


def message(task, args, task_id, ignore_result=False):
    body = json.dumps([args, {}, {'callbacks': None, 'errbacks': None, 'chain': None, 'chord': None}])
    shown = repr(tuple(args))
    return json.dumps({
        'body': base64.b64encode(body.encode()).decode(),
        'content-encoding': 'utf-8',
        'content-type': 'application/json',
        'headers': {
            'lang': 'py', 'task': task, 'id': task_id, 'shadow': None, 'eta': None, 'expires': None, 'group': None,
            'group_index': None, 'retries': 0, 'timelimit': [None, None], 'root_id': task_id, 'parent_id': None,
            'argsrepr': shown if len(shown) < 1024 else shown[:1020] + '...', 'kwargsrepr': '{}', 'origin': 'gen1@benches',
            'ignore_result': ignore_result, 'replaced_task_nesting': 0, 'stamped_headers': None, 'stamps': {},
        },
        'properties': {
            'correlation_id': task_id, 'reply_to': str(uuid.uuid4()), 'delivery_mode': 2,
            'delivery_info': {'exchange': '', 'routing_key': QUEUE}, 'priority': 0, 'body_encoding': 'base64',
            'delivery_tag': str(uuid.uuid4()),
        },
    }).encode()


def stage(client, texts):
    """Puts messages where nobody reads them; RENAME hands them over in one moment."""
    size = 20 if texts and len(texts[0]) > 20_000 else 500
    for start in range(0, len(texts), size):
        client.lpush(STAGED, *texts[start:start + size])
