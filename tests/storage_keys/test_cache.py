"""The cache of the records that a process has read."""

from chalicelib.storage.cache import LIFETIME, SIZE, Cache


def test_value_is_cached_from_the_time_it_was_read_at() -> None:
    cache: Cache[str] = Cache()
    cache.update({"a": "first"}, read_at=1000)
    assert cache.get("a", 1000 + LIFETIME - 1) == "first"
    assert cache.get("a", 1000 + LIFETIME) is None
    cache.update({"b": "later"}, read_at=1000 + LIFETIME)
    assert cache.recent(("a", "b", "c"), 1000 + LIFETIME) == {"b": "later"}


def test_value_is_cached_for_as_long_as_its_cache_says() -> None:
    cache: Cache[str] = Cache(lifetime=5)
    cache.update({"a": "1"}, read_at=0)
    assert (cache.get("a", 4), cache.get("a", 5)) == ("1", None)


def test_absence_is_cached_as_a_value() -> None:
    cache: Cache[str | None] = Cache()
    cache.update({"absent": None}, read_at=0)
    assert cache.recent(("absent", "unknown"), 0) == {"absent": None}


def test_values_that_were_stored_first_are_dropped_beyond_the_size() -> None:
    cache: Cache[int] = Cache()
    cache.update({str(number): number for number in range(SIZE)}, read_at=0)
    cache.update({"0": -1}, read_at=0)
    cache.update({"new": SIZE}, read_at=0)
    assert (cache.get("0", 0), cache.get("1", 0), cache.get("2", 0), cache.get("new", 0)) == (-1, None, 2, SIZE)


def test_dropped_value_is_no_longer_cached() -> None:
    cache: Cache[int] = Cache()
    cache.update({"a": 1, "b": 2, "c": 3}, read_at=0)
    cache.drop(("a", "unknown"))
    assert cache.recent(("a", "b", "c"), 0) == {"b": 2, "c": 3}
    cache.clear()
    assert cache.recent(("a", "b", "c"), 0) == {}
