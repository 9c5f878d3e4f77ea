"""Segments as bytes and as words of the script language. A word of a segment: `PA 1:1001 ack 1 win 502 <nop nop ts 5 ecr 7>`."""
import re
import socket
import struct

FLAGS = "FSRPAUEWX"  # bit 0 first; E: ECE, W: CWR, X: AE (RFC 9768)
VNET_HEADER, NEEDS_CSUM, GSO_TCPV4, GSO_TCPV6 = 10, 1, 1, 4
FASTOPEN_MAGIC = b"\xf9\x89"  # of the experimental option 254, as RFC 7413's was before it had a number
ACCECN = {"acc0": 172, "acc1": 174}  # RFC 9768: three 24-bit counters at most
KINDS = {0: "eol", 1: "nop", 2: "mss", 3: "wscale", 4: "sackok", 5: "sack", 8: "ts", 34: "fo"}


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Segment:
    """Absolute numbers. `options`: a list of tuples, the kind's word first."""

    def __init__(self, **fields):
        self.sport = self.dport = self.seq = self.ack = self.window = self.urgent = self.length = 0
        self.flags, self.options, self.tos, self.ttl, self.ip_id, self.df, self.ecn = "", [], 0, 64, 0, True, 0
        self.icmp = None
        self.__dict__.update(fields)

    def has(self, flag):
        return flag in self.flags

    def option(self, kind):
        return next((o for o in self.options if o[0] == kind), None)

    @property
    def space(self):
        return self.length + self.has("S") + self.has("F")


def encode_options(options):
    out = b""
    for option in options:
        kind, values = option[0], option[1:]
        if kind == "eol":
            out += b"\0"
        elif kind == "nop":
            out += b"\1"
        elif kind == "mss":
            out += struct.pack("!BBH", 2, 4, values[0])
        elif kind == "wscale":
            out += struct.pack("!BBB", 3, 3, values[0])
        elif kind == "sackok":
            out += b"\4\2"
        elif kind == "ts":
            out += struct.pack("!BBII", 8, 10, values[0] & 0xFFFFFFFF, values[1] & 0xFFFFFFFF)
        elif kind == "sack":
            out += struct.pack("!BB", 5, 2 + 8 * len(values)) + b"".join(
                struct.pack("!II", a & 0xFFFFFFFF, b & 0xFFFFFFFF) for a, b in values)
        elif kind == "fo":
            out += struct.pack("!BB", 34, 2 + len(values[0])) + values[0]
        elif kind == "foexp":
            out += struct.pack("!BB", 254, 4 + len(values[0])) + FASTOPEN_MAGIC + values[0]
        elif kind in ACCECN:
            out += struct.pack("!BB", ACCECN[kind], 2 + 3 * len(values)) + b"".join(struct.pack("!I", n)[1:] for n in values)
        else:  # ("kind", number, bytes)
            out += struct.pack("!BB", values[0], 2 + len(values[1])) + values[1]
    return out + b"\0" * (-len(out) % 4)


def decode_options(data):
    options, at = [], 0
    while at < len(data):
        kind = data[at]
        if kind < 2:
            options.append((KINDS[kind],))
            at += 1
            continue
        length = data[at + 1] if at + 1 < len(data) else 0
        body = data[at + 2:at + length]
        if length < 2 or at + length > len(data):
            raise ValueError("an option that does not end: %r" % data)
        if kind == 2:
            options.append(("mss", struct.unpack("!H", body)[0]))
        elif kind == 3:
            options.append(("wscale", body[0]))
        elif kind == 4:
            options.append(("sackok",))
        elif kind == 5:
            numbers = struct.unpack("!%dI" % (len(body) // 4), body)
            options.append(("sack", *zip(numbers[::2], numbers[1::2])))
        elif kind == 8:
            options.append(("ts", *struct.unpack("!II", body)))
        elif kind == 34:
            options.append(("fo", body))
        elif kind == 254 and body[:2] == FASTOPEN_MAGIC:
            options.append(("foexp", body[2:]))
        elif kind in ACCECN.values() and len(body) % 3 == 0:
            options.append(("acc0" if kind == 172 else "acc1", *[int.from_bytes(body[i:i + 3], "big") for i in range(0, len(body), 3)]))
        else:
            options.append(("kind", kind, body))
        at += length
    return options


def pseudo(src, dst, length, protocol):
    if len(src) == 4:
        return src + dst + struct.pack("!BBH", 0, protocol, length)
    return src + dst + struct.pack("!IHBB", length, 0, 0, protocol)


def ip_packet(src, dst, protocol, payload, ttl=64, tos=0):
    if len(src) == 16:
        return struct.pack("!IHBB", 6 << 28 | tos << 20, len(payload), protocol, ttl) + src + dst + payload
    head = struct.pack("!BBHHHBBH", 0x45, tos, 20 + len(payload), 0, 0x4000, ttl, protocol, 0) + src + dst
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def encode(seg, src, dst):
    """An IP packet whose text is the bytes that `text_at` says."""
    options = encode_options(seg.options)
    flags = sum(1 << FLAGS.index(f) for f in seg.flags)
    head = struct.pack("!HHIIHHHH", seg.sport, seg.dport, seg.seq & 0xFFFFFFFF, seg.ack & 0xFFFFFFFF,
                       (20 + len(options)) // 4 << 12 | flags, seg.window, 0, seg.urgent) + options
    tcp = head + b"." * seg.length
    total = checksum(pseudo(src, dst, len(tcp), socket.IPPROTO_TCP) + tcp)
    return ip_packet(src, dst, socket.IPPROTO_TCP, tcp[:16] + struct.pack("!H", total) + tcp[18:], tos=seg.tos | seg.ecn)


def encode_frame(seg, src, dst, gso_size):
    """The packet behind its struct virtio_net_hdr. What is longer than gso_size, if that is not 0, is a super-segment, whose checksum is not finished."""
    packet = encode(seg, src, dst)
    if not gso_size or seg.length <= gso_size:
        return b"\0" * VNET_HEADER + packet
    v6 = len(src) == 16
    ip = 40 if v6 else 20
    start = ~checksum(pseudo(src, dst, len(packet) - ip, socket.IPPROTO_TCP)) & 0xFFFF
    packet = packet[:ip + 16] + struct.pack("!H", start) + packet[ip + 18:]
    return struct.pack("=BBHHHH", NEEDS_CSUM, GSO_TCPV6 if v6 else GSO_TCPV4, len(packet), gso_size, ip, 16) + packet


def encode_icmp(what, mtu, quoted, src, dst):
    """The peer says that `quoted`, a packet of ours, did not arrive."""
    v6 = len(src) == 16
    kinds = {"net": (3, 0), "host": (3, 1), "port": (3, 3), "frag": (3, 4), "admin": (3, 13), "quench": (4, 0)}
    kinds6 = {"net": (1, 0), "host": (1, 3), "port": (1, 4), "frag": (2, 0), "admin": (1, 1)}
    kind, code = (kinds6 if v6 else kinds)[what]
    rest = struct.pack("!I", mtu) if v6 else struct.pack("!HH", 0, mtu)
    body = quoted[:40 + 20] if v6 else quoted[:20 + 8]
    message = struct.pack("!BBH", kind, code, 0) + rest + body
    protocol = 58 if v6 else 1
    total = checksum((pseudo(src, dst, len(message), 58) if v6 else b"") + message)
    return ip_packet(src, dst, protocol, message[:2] + struct.pack("!H", total) + message[4:])


def decode(packet):
    """(segment, src, dst), or None for what is no TCP."""
    if packet[0] >> 4 == 4:
        head = (packet[0] & 15) * 4
        if packet[9] != 6:
            return None
        src, dst, total = packet[12:16], packet[16:20], struct.unpack("!H", packet[2:4])[0]
        tos, ttl, ip_id, df = packet[1], packet[8], struct.unpack("!H", packet[4:6])[0], bool(packet[6] & 0x40)
    else:
        head = 40
        if packet[6] != 6:
            return None
        src, dst, total = packet[8:24], packet[24:40], len(packet)
        tos, ttl, ip_id, df = struct.unpack("!H", packet[:2])[0] >> 4 & 0xFF, packet[7], 0, True
    tcp = packet[head:total or len(packet)]
    sport, dport, seq, ack, bits, window, _, urgent = struct.unpack("!HHIIHHHH", tcp[:20])
    size = (bits >> 12) * 4
    flags = "".join(f for i, f in enumerate(FLAGS) if bits >> i & 1)
    return Segment(sport=sport, dport=dport, seq=seq, ack=ack, window=window, urgent=urgent, flags=flags,
                   options=decode_options(tcp[20:size]), length=len(tcp) - size, tos=tos & 0xFC, ecn=tos & 3, ttl=ttl,
                   ip_id=ip_id, df=df), src, dst


# ---- words ----

def order_flags(flags):
    return "".join(f for f in "SFRPUEWXA" if f in flags)


def relative(number, base):
    value = (number - base) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


OPTION = re.compile(r"(nop|eol|sackok)|(mss|wscale|foexp|fo) (\S+)|ts (\S+)(?: ecr (\S+))?|sack ((?:-?\d+:-?\d+ ?)+)|kind (\d+) (\S+)|(acc[01])((?: \d+)*)")


def parse_options(text):
    """Words between < and >: values may be words, which the player makes numbers of."""
    options, at, text = [], 0, text.strip()
    while at < len(text):
        m = OPTION.match(text, at)
        if not m:
            raise ValueError("no option: %r" % text[at:])
        if m[1]:
            options.append((m[1],))
        elif m[2]:
            options.append((m[2], m[3]))
        elif m[4]:
            options.append(("ts", m[4], m[5] or "last"))
        elif m[6]:
            options.append(("sack", *[tuple(int(n) for n in pair.split(":")) for pair in m[6].split()]))
        elif m[9]:
            options.append((m[9], *[int(n) for n in m[10].split()]))
        else:
            options.append(("kind", int(m[7]), b"" if m[8] == "-" else bytes.fromhex(m[8])))
        at = m.end()
        while at < len(text) and text[at] in " ,":
            at += 1
    return options


def option_words(options):
    words = []
    for option in options:
        if option[0] == "sack":
            words.append("sack " + " ".join("%d:%d" % pair for pair in option[1:]))
        elif option[0] == "ts":
            words.append("ts %s ecr %s" % option[1:])
        elif option[0] == "kind":
            words.append("kind %d %s" % (option[1], option[2].hex() or "-"))
        else:
            words.append(" ".join(str(w) for w in option))
    return "<" + " ".join(words) + ">"
