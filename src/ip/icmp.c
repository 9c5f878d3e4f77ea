/*
 * What an ICMP error means for the connection it concerns: which one, Linux's errno for it, and whether it
 * is hard. Hard is what RFC 1122 §4.2.3.9 and Linux's own tables call fatal; what a connection does about
 * a soft one in which state is TCP's to decide (RFC 5461), and so is the check of the sequence number (RFC 5927 §4).
 */
#include <errno.h>

#include "ip/ip_internal.h"
#include "wire/bytes.h"
#include "wire/icmp.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"

#define IPV4_MTU_MIN 68 /* RFC 791 §3.2: every module forwards this much */

struct meaning {
	uint8_t err;
	bool hard;
};

/* Destination unreachable, by code (RFC 792, RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1). */
static const struct meaning unreachable_v4[] = {
	{ENETUNREACH, false},  /* net */
	{EHOSTUNREACH, false}, /* host */
	{ENOPROTOOPT, true},   /* protocol */
	{ECONNREFUSED, true},  /* port */
	{EMSGSIZE, false},     /* fragmentation needed: frag_needed says so, too */
	{EOPNOTSUPP, false},   /* source route failed */
	{ENETUNREACH, true},   /* destination network unknown */
	{EHOSTDOWN, true},     /* destination host unknown */
	{ENONET, true},	       /* source host isolated */
	{ENETUNREACH, true},   /* network prohibited */
	{EHOSTUNREACH, true},  /* host prohibited */
	{ENETUNREACH, false},  /* network, for this type of service */
	{EHOSTUNREACH, false}, /* host, for this type of service */
	{EHOSTUNREACH, true},  /* communication prohibited */
	{EHOSTUNREACH, true},  /* host precedence violation */
	{EHOSTUNREACH, true},  /* precedence cutoff */
};

/* RFC 4443 §3.1. */
static const struct meaning unreachable_v6[] = {
	{ENETUNREACH, false},  /* no route */
	{EACCES, true},	       /* prohibited */
	{EHOSTUNREACH, false}, /* beyond the scope of the source */
	{EHOSTUNREACH, false}, /* address */
	{ECONNREFUSED, true},  /* port */
	{EACCES, true},	       /* source failed policy */
	{EACCES, true},	       /* route rejected */
};

static enum ip_fate mean(struct ip_icmp_error *out, int err, bool hard)
{
	out->err = err;
	out->hard = hard;
	return IP_FATE_Delivered;
}

static enum ip_fate mean_unreachable(struct ip_icmp_error *out, const struct meaning *table,
				     size_t n, uint8_t code)
{
	if (code >= n)
		return IP_FATE_IcmpNoConcern;
	return mean(out, table[code].err, table[code].hard);
}

static enum ip_fate mean_mtu(struct ip_icmp_error *out, uint32_t mtu, uint32_t least)
{
	if (mtu && mtu < least)
		return IP_FATE_IcmpBadMtu; /* RFC 8201 §4: must be ignored */
	out->frag_needed = true;
	out->mtu = mtu;
	return mean(out, EMSGSIZE, false);
}

static enum ip_fate interpret_v4(const struct icmp_message *m, struct ip_icmp_error *out)
{
	switch (m->type) {
	case ICMP4_UNREACHABLE:
		if (m->code == ICMP4_FRAG_NEEDED) /* RFC 1191 §4: the MTU is in the low 16 bits */
			return mean_mtu(out, m->word & 0xffff, IPV4_MTU_MIN);
		return mean_unreachable(out, unreachable_v4,
					sizeof unreachable_v4 / sizeof *unreachable_v4, m->code);
	case ICMP4_TIME_EXCEEDED:
		return mean(out, EHOSTUNREACH, false); /* RFC 1122 §4.2.3.9: soft, as the next */
	case ICMP4_PARAMETER:
		return mean(out, EPROTO, false);
	default: /* RFC 6633: source quench is silently discarded; redirects are the kernel's */
		return IP_FATE_IcmpNoConcern;
	}
}

static enum ip_fate interpret_v6(const struct icmp_message *m, struct ip_icmp_error *out)
{
	switch (m->type) {
	case ICMP6_UNREACHABLE:
		return mean_unreachable(out, unreachable_v6,
					sizeof unreachable_v6 / sizeof *unreachable_v6, m->code);
	case ICMP6_TOO_BIG:
		if (!m->word) /* unlike in IPv4, every router states it */
			return IP_FATE_IcmpBadMtu;
		return mean_mtu(out, m->word, IPV6_MTU_MIN);
	case ICMP6_TIME_EXCEEDED:
		return mean(out, EHOSTUNREACH, false);
	case ICMP6_PARAMETER: /* code 1, unknown next header, is IPv4's protocol unreachable */
		return mean(out, EPROTO, m->code == 1);
	default:
		return IP_FATE_IcmpNoConcern;
	}
}

/* Linux's ee_info: of IPv6 the message's own word. */
static uint32_t info_of(const struct icmp_message *m, bool v6)
{
	if (v6)
		return m->word;
	if (m->type == ICMP4_UNREACHABLE && m->code == ICMP4_FRAG_NEEDED)
		return m->word & 0xffff;
	return m->type == ICMP4_PARAMETER ? m->word >> 24 : 0;
}

static enum ip_fate fate_of(enum icmp_result result)
{
	switch (result) {
	case ICMP_SHORT:
		return IP_FATE_IcmpShort;
	case ICMP_BAD_CHECKSUM:
		return IP_FATE_IcmpBadChecksum;
	case ICMP_BAD_QUOTE:
	case ICMP_LATER_FRAGMENT:
		return IP_FATE_IcmpBadQuote;
	case ICMP_OK:
		break;
	}
	return IP_FATE_Delivered;
}

enum ip_fate ip_icmp_parse(const uint8_t *bytes, uint32_t len, bool v6, const uint8_t *src,
			   const uint8_t *dst, struct ip_icmp_error *out)
{
	struct icmp_message m;
	enum ip_fate fate = fate_of(icmp_parse(bytes, len, v6, src, dst, &m));

	if (fate != IP_FATE_Delivered)
		return fate;
	if (!icmp_is_error(&m, v6))
		return IP_FATE_IcmpNotError;
	fate = fate_of(icmp_parse_quote(bytes, len, v6, &m));
	if (fate != IP_FATE_Delivered)
		return fate;
	if (m.protocol != IP_PROTO_TCP)
		return IP_FATE_IcmpNotTcp;
	/*
	 * An error is sent to the source of what it is about (RFC 1122 §3.2.2): a quote of another host's packet is
	 * forged.
	 */
	if (memcmp(m.src, dst, v6 ? 16 : 4) != 0)
		return IP_FATE_IcmpBadQuote;
	*out = (struct ip_icmp_error){
		.key = {.laddr = v6 ? ip_addr_from_v6(m.src) : ip_addr_from_v4(m.src),
			.raddr = v6 ? ip_addr_from_v6(m.dst) : ip_addr_from_v4(m.dst),
			.lport = load_be16(m.upper),
			.rport = load_be16(m.upper + 2)},
		.seq = load_be32(m.upper + 4),
		.type = m.type,
		.code = m.code,
		.info = info_of(&m, v6),
		.offender = v6 ? ip_addr_from_v6(src) : ip_addr_from_v4(src),
		.quote = m.upper,
		.quote_len = bytes + len - m.upper,
	};
	return v6 ? interpret_v6(&m, out) : interpret_v4(&m, out);
}
