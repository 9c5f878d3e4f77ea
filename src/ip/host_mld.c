/*
 * Which groups we listen to: the solicited-node group of each IPv6 address (RFC 4861 §7.2.1, RFC 4862 §5.4.2). Bridges
 * and switches that snoop (RFC 4541) pass a group's frames to those only who reported it, and then nobody finds us who
 * did not know us before. So it is reported when addresses are claimed, before the first probe, twice a second apart
 * (RFC 3810 §9.11), and when a querier asks, in the version that he speaks, after a random part of the time that he
 * gives.
 *
 * One report waits at most, and none leaves sooner than REPORT_INTERVAL after the last: whoever asks more often gets
 * one for several questions.
 */
#include "ip/host_internal.h"

#include <errno.h>
#include <string.h>

#include "wire/mld.h"
#include "wire/ndisc.h"

#define ROBUSTNESS           2 /* RFC 3810 §9.1 */
#define UNSOLICITED_INTERVAL USEC_PER_SEC
#define REPORT_INTERVAL      (USEC_PER_SEC / 10)

static unsigned groups_of(const struct host *h, uint8_t (*out)[16])
{
	uint8_t mac[6];
	unsigned n = 0;
	for (unsigned i = 0; i < h->n_addrs; i++)
		if (!ip_addr_is_v4(&h->addrs[i].addr) && h->addrs[i].state != HOST_ADDR_LOST)
			ndisc_solicited_group(h->addrs[i].addr.b, out[n++], mac);
	return n;
}

/* A link-local address of ours, or ::. */
static struct ip_addr source_of(const struct host *h)
{
	for (unsigned i = 0; i < h->n_addrs; i++)
		if (h->addrs[i].addr.b[0] == 0xfe && h->addrs[i].state == HOST_ADDR_OURS)
			return h->addrs[i].addr;
	return (struct ip_addr){{0}};
}

static void report(struct host *h, bool v1, uint8_t record)
{
	uint8_t groups[HOST_ADDRS_MAX][16], hdr[MLD_HDR_BYTES], body[MLD_REPORT_BYTES(HOST_ADDRS_MAX)];
	struct ip_addr src = source_of(h);
	unsigned n = groups_of(h, groups);
	h->counters[HOST_Reported] += n != 0;
	if (!v1 && n) {
		mld_build_report(h->mac, src.b, (const uint8_t(*)[16])groups, n, record, hdr, body);
		h->out->frame(h->out, hdr, sizeof hdr, body, MLD_REPORT_BYTES(n));
	}
	for (unsigned i = 0; v1 && i < n; i++) {
		mld_build_report_v1(h->mac, src.b, groups[i], hdr, body);
		h->out->frame(h->out, hdr, sizeof hdr, body, MLD_REPORT_V1_BYTES);
	}
}

void host_mld_join(struct host *h, int64_t now)
{
	uint8_t groups[HOST_ADDRS_MAX][16];
	if (!h->has_eth || !groups_of(h, groups))
		return;
	h->joins = ROBUSTNESS;
	h->report_us = now;
	host_due(h, now);
}

void host_mld_tick(struct host *h, int64_t now)
{
	if (h->report_us > now) {
		host_due(h, h->report_us);
		return;
	}
	report(h, h->joins ? false : h->asked_v1, h->joins ? MLD_TO_EXCLUDE : MLD_IS_EXCLUDE);
	h->reported_us = now;
	h->joins -= h->joins != 0;
	h->report_us = h->joins ? now + UNSOLICITED_INTERVAL : TIME_NEVER;
	host_due(h, h->report_us);
}

bool host_mld_input(struct host *h, int64_t now, const uint8_t *ip, size_t len)
{
	uint8_t groups[HOST_ADDRS_MAX][16];
	struct mld_query q;
	int err = mld_parse_query(ip, len, &q);
	if (err == -ENOMSG)
		return false;
	h->counters[HOST_NdMalformed] += err != 0;
	if (err || h->silent || h->report_us != TIME_NEVER)
		return true;
	struct ip_addr group = ip_addr_from_v6(q.group);
	bool asked = ip_addr_is_any(&group);
	for (unsigned i = groups_of(h, groups); i-- && !asked;)
		asked = memcmp(groups[i], q.group, 16) == 0;
	if (!asked)
		return true;
	h->asked_v1 = q.v1;
	h->report_us = max_time(now + host_random(h, 0, q.max_delay_ms * USEC_PER_MSEC), h->reported_us + REPORT_INTERVAL);
	host_due(h, h->report_us);
	return true;
}
