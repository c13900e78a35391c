"""Canvas of the Python client: links, chains, groups, chords."""
import uuid

from celery import chain, chord, group
from celery.result import GroupResult

from waiting import SOON, wait_until


def get(result):
    return result.get(timeout=SOON)


def test_link(client):
    linked = str(uuid.uuid4())
    result = client.send("demo.add", 1, 2, link=client.sig("demo.add", 100, task_id=linked))
    assert get(result) == 3
    assert get(client.result(linked)) == 103
    assert [child.id for child in result.children] == [linked]


def test_several_links_run_all(client):
    ids = [str(uuid.uuid4()) for _ in range(3)]
    links = [client.sig("demo.add", number, task_id=task_id) for number, task_id in enumerate(ids)]
    assert get(client.send("demo.add", 1, 2, link=links)) == 3
    assert [get(client.result(task_id)) for task_id in ids] == [3, 4, 5]


def test_link_error_gets_the_failed_id(client):
    called = str(uuid.uuid4())
    result = client.send("demo.fail", "for the errback", link_error=client.sig("demo.echo", task_id=called))
    assert "for the errback" in str(client.error_of(result))
    assert get(client.result(called)) == result.id


def test_link_error_is_not_called_on_success(client, events):
    called = str(uuid.uuid4())
    result = client.send("demo.add", 1, 2, link_error=client.sig("demo.echo", task_id=called))
    events.wait_for(uuid=result.id, type="task-succeeded")
    get(client.send("demo.add", 1, 1))
    assert not client.has_stored(called)


def test_chain_hands_values_on(client):
    result = chain(client.sig("demo.add", 1, 2), client.sig("demo.add", 3), client.sig("demo.add", 4))()
    assert get(result) == 10
    assert (get(result.parent), get(result.parent.parent)) == (6, 3)


def test_failing_step_ends_the_chain(client, events):
    result = chain(
        client.sig("demo.add", 1, 2), client.sig("demo.fail", "in the middle", immutable=True), client.sig("demo.add", 4),
    )()
    middle, first = result.parent, result.parent.parent
    assert get(first) == 3
    assert "in the middle" in str(client.error_of(middle))
    wait_until(lambda: result.state == "FAILURE", lambda: f"the last step is marked, it is {result.state}")
    assert "in the middle" in str(client.error_of(result))
    assert not events.find(uuid=result.id, type="task-received")


def test_group(client):
    result = group(client.sig("demo.add", n, n) for n in range(20))()
    assert get(result) == [2 * n for n in range(20)]
    assert result.completed_count() == 20 and result.successful()
    result.save()
    restored = GroupResult.restore(result.id, app=client.app)
    assert restored.join(timeout=SOON) == [2 * n for n in range(20)]


def test_group_with_a_failure(client):
    result = group(client.sig("demo.add", 1, 1), client.sig("demo.fail", "one of the group"))()
    assert "one of the group" in str(client.error_of(result))
    assert result.results[0].get(timeout=SOON) == 2
    assert result.failed()


def test_chord(client):
    result = chord([client.sig("demo.add", n, 1) for n in range(10)])(client.sig("demo.echo"))
    assert sorted(get(result)) == list(range(1, 11))


def test_chord_of_one(client):
    assert get(chord([client.sig("demo.add", 3, 4)])(client.sig("demo.echo"))) == [7]


def test_chord_with_a_failing_header(client, events):
    result = chord([
        client.sig("demo.add", 1, 1), client.sig("demo.fail", "in the header"), client.sig("demo.add", 2, 2),
    ])(client.sig("demo.echo"))
    wait_until(lambda: result.state == "FAILURE", lambda: f"the body fails, it is {result.state}")
    error = result.result
    assert type(error).__name__ == "ChordError", repr(error)
    assert "in the header" in str(error)
    assert not events.find(uuid=result.id, type="task-received")


def test_chain_into_a_group(client):
    result = chain(client.sig("demo.add", 1, 1), group(client.sig("demo.add", n) for n in range(4)))()
    assert get(result) == [2, 3, 4, 5]


def test_chain_with_a_group_inside(client):
    """A group that is followed by a task is a chord."""
    result = chain(
        client.sig("demo.add", 1, 1), group(client.sig("demo.add", n) for n in range(4)), client.sig("demo.echo"),
    )()
    assert sorted(get(result)) == [2, 3, 4, 5]


def test_group_of_chains(client):
    result = group(chain(client.sig("demo.add", n, 1), client.sig("demo.add", 10)) for n in range(3))()
    assert get(result) == [11, 12, 13]


def test_nothing_is_left_on_the_broker(client):
    client.wait_empty()
