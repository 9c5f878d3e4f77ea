"""Cookies of TCP Fast Open as Linux makes them: SipHash-2-4 of the two addresses, by the key of net.ipv4.tcp_fastopen_key or TCP_FASTOPEN_KEY."""
import struct

MASK = (1 << 64) - 1


def rotate(value, bits):
    return (value << bits | value >> (64 - bits)) & MASK


def siphash_round(v):
    a, b, c, d = v
    a, c = (a + b) & MASK, (c + d) & MASK
    b, d = rotate(b, 13) ^ a, rotate(d, 16) ^ c
    a = rotate(a, 32)
    c, a = (c + b) & MASK, (a + d) & MASK
    b, d = rotate(b, 17) ^ c, rotate(d, 21) ^ a
    return [a, b, rotate(c, 32), d]


def siphash(key, data):
    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]
    data += b"\0" * (7 - len(data) % 8) + bytes([len(data) & 0xFF])
    for (word,) in struct.iter_unpack("<Q", data):
        v[3] ^= word
        v = siphash_round(siphash_round(v))
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(4):
        v = siphash_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def keys_of_sysctl(value):
    """A key of the setting is four numbers of 32 bits."""
    return [struct.pack("<4I", *(int(word, 16) for word in key.split("-"))) for key in value.split(",") if key]


def cookies(keys, client, server):
    """One for each key: words of the scripts are cookie, cookie2."""
    return {"cookie" + ("" if i == 0 else str(i + 1)): struct.pack("<Q", siphash(key, client + server)) for i, key in enumerate(keys)}
