// What a connection to another server tells of its path, and how it is set up for a long one. Loop's thread.
#include "loop_internal.h"

// Has the newer fields of TCP_INFO, and does not go together with netinet/tcp.h.
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>

int cs_conn_read_flow(const cs_conn *conn, cs_conn_flow *out) {
    int unacked = 0, unsent = 0;
    struct tcp_info info;
    socklen_t length = sizeof info;
    memset(&info, 0, sizeof info);
    if (ioctl(conn->fd, SIOCOUTQ, &unacked) < 0 || ioctl(conn->fd, SIOCOUTQNSD, &unsent) < 0
        || getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0) {
        return -errno;
    }
    out->unacked = (uint32_t)unacked;
    out->unsent = (uint32_t)unsent;
    out->rate = info.tcpi_delivery_rate;
    out->round_trip = info.tcpi_rtt;
    out->segments = info.tcpi_data_segs_out;
    out->repeated = info.tcpi_total_retrans;
    return 0;
}

// Linux 6.15.
#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44
#endif

void cs_conn_set_far(cs_conn *conn) {
    int on = 1, retransmit_millis = 1000;
    setsockopt(conn->fd, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, &on, sizeof on);
    setsockopt(conn->fd, IPPROTO_TCP, TCP_RTO_MAX_MS, &retransmit_millis, sizeof retransmit_millis);
}

void cs_conn_set_unsent_max(cs_conn *conn, uint32_t bytes) {
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
}

int cs_conn_congestion(const cs_conn *conn, char *name, uint32_t size) {
    socklen_t length = size - 1;
    memset(name, 0, size);
    return getsockopt(conn->fd, IPPROTO_TCP, TCP_CONGESTION, name, &length) < 0 ? -errno : 0;
}

int cs_conn_set_congestion(cs_conn *conn, const char *name) {
    return setsockopt(conn->fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name)) < 0 ? -errno : 0;
}
