"""Reads what fastjson writes: JSON in which a map's keys may be bare numbers or whole objects (remoting facts 1.8).

Keys that are objects come back as their JSON in one canonical text, numbers as ints.
"""
import json

_decoder = json.JSONDecoder()


def loads(text):
    if isinstance(text, bytes):
        text = text.decode()
    value, end = _value(text, 0)
    if text[end:].strip():
        raise ValueError(f"text behind the end at {end}: {text[end:end + 40]!r}")
    return value


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _value(text: str, at: int):
    at = _skip(text, at)
    if text[at] == "{":
        return _members(text, at, {}, "}")
    if text[at] == "[":
        return _members(text, at, [], "]")
    return _decoder.raw_decode(text, at)


def _members(text: str, at: int, into, close: str):
    at = _skip(text, at + 1)
    while text[at] != close:
        if isinstance(into, dict):
            key, at = _value(text, at)
            at = _skip(text, at)
            if text[at] != ":":
                raise ValueError(f"no colon at {at}: {text[at:at + 40]!r}")
            key = json.dumps(key, sort_keys=True) if isinstance(key, dict) else key
            into[key], at = _value(text, at + 1)
        else:
            item, at = _value(text, at)
            into.append(item)
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return into, at + 1
