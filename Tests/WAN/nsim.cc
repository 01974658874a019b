// Carries IP packets between the TUN devices of several network namespaces, with the delay, loss and bandwidth of a
// wide-area path, and counts the messages of kvd's links as they enter. One thread; wan.py starts it and speaks to it.
//
//   nsim N fd1 … fdN      host i (from 0) has the address 10.77.0.(i+1)
//
// Commands on standard input, one a line, each answered by one line:
//   set FROM TO NAME VALUE   one property of one direction; -1 for every host. The names are in `property` below
//   clear                    every property back to nothing: no delay, no loss, no limit
//   port P                   P is a server's port: connections from and to it are read for messages
//   stats                    JSON: what each direction carried, messages of each pair of actors, frames by type
//   reset                    all counts back to 0

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <vector>

using Bytes = std::vector<uint8_t>;

constexpr int hostsMax = 32;
constexpr uint64_t second = 1'000'000'000;

/// Where the counting looks into a frame: Sources/KVRuntime/Remote/LinkFrame.swift. Little endian.
namespace frame {
constexpr size_t headerBytes = 8;  // body length (4), checksum (4)
constexpr size_t typeAt = 1;       // in the body, as what follows
constexpr size_t targetAt = 8;
constexpr size_t senderAt = 16;
constexpr size_t readBytes = 24;  // of the body, no more is needed
constexpr size_t bodyBytesMin = 4;
constexpr size_t bodyBytesMax = 200u << 20;
constexpr int types = 16;
/// Types that begin a message; everything else is part of one or none.
constexpr bool beginsMessage(uint8_t type) { return type == 4 || type == 7; }
}  // namespace frame

static uint64_t now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * second + t.tv_nsec;
}

static std::mt19937_64 generator(12345);

static double chance() { return std::uniform_real_distribution<double>(0, 1)(generator); }

/// One direction between two hosts: what it does to packets, and what it did.
struct Direction {
    double delay = 0, jitter = 0;  // seconds
    double loss = 0, dup = 0, reorder = 0;  // probabilities
    double corrupt = 0;     // a bit flips; TCP's checksum shows it
    double corruptfix = 0;  // a bit flips and the checksum is mended: only the receiver's own checks show it
    double rate = 0;        // bytes a second
    double queue = 2;       // seconds of `rate` that wait before packets are dropped
    double mtu = 0;   // larger packets are refused, and the sender is told
    double hole = 0;  // packets larger than this vanish
    double down = 0;  // nothing passes
    double kill = 0;  // every TCP packet of a server's connection becomes a reset

    uint64_t freeAt = 0, lastAt = 0;
    uint64_t packets = 0, bytes = 0, lost = 0, duplicated = 0, corrupted = 0, tooBig = 0, reordered = 0;

    double* property(const std::string& name) {
        static const std::map<std::string, double Direction::*> all = {
            {"delay", &Direction::delay}, {"jitter", &Direction::jitter},   {"loss", &Direction::loss},
            {"dup", &Direction::dup},     {"reorder", &Direction::reorder}, {"corrupt", &Direction::corrupt},
            {"rate", &Direction::rate},   {"queue", &Direction::queue},     {"corruptfix", &Direction::corruptfix},
            {"mtu", &Direction::mtu},     {"hole", &Direction::hole},       {"down", &Direction::down},
            {"kill", &Direction::kill},
        };
        auto found = all.find(name);
        return found == all.end() ? nullptr : &(this->*found->second);
    }

    void clear() {
        delay = jitter = loss = dup = reorder = corrupt = corruptfix = rate = mtu = hole = down = kill = 0;
        queue = 2;
    }

    void reset() { packets = bytes = lost = duplicated = corrupted = tooBig = reordered = 0; }
};

static int hosts;
static std::vector<int> devices;
static Direction directions[hostsMax][hostsMax];
static std::set<int> serverPorts;

// MARK: Counting messages

/// Messages of one ordered pair of actors. Hosts stand for servers, so that a restarted server counts as the same one.
struct Pair {
    std::deque<uint64_t> lastSecond;
    uint64_t messages = 0, bytes = 0;
    size_t inOneSecondMax = 0;

    void count(uint64_t time, uint64_t length) {
        messages += 1;
        bytes += length;
        lastSecond.push_back(time);
        while (time - lastSecond.front() >= second) lastSecond.pop_front();
        inOneSecondMax = std::max(inOneSecondMax, lastSecond.size());
    }
};

static std::map<std::array<uint64_t, 4>, Pair> pairs;  // by sender's host, sender, target's host, target
static uint64_t framesByType[frame::types];
static uint64_t unreadStreams;

/// One direction of one TCP connection, put in order and cut into frames.
struct Stream {
    int from, to;
    uint32_t next;  // sequence number
    std::map<uint32_t, Bytes> early;
    size_t earlyBytes = 0;
    Bytes head;  // of the frame that is arriving
    uint64_t skip = 0;
    bool lost = false;

    Stream(int from, int to, uint32_t next) : from(from), to(to), next(next) {}

    void giveUp() {
        if (!lost) unreadStreams += 1;
        lost = true;
        early.clear();
    }

    void segment(uint32_t sequence, const uint8_t* bytes, size_t count, uint64_t time) {
        if (lost) return;
        int32_t behind = (int32_t)(next - sequence);
        if (behind < 0) {
            // The device dropped one before: it comes again.
            earlyBytes += count;
            if (earlyBytes > (32u << 20)) return giveUp();
            early.emplace(sequence, Bytes(bytes, bytes + count));
            return;
        }
        take(sequence, bytes, count, time);
        while (!early.empty()) {
            auto it = std::find_if(early.begin(), early.end(), [&](auto& e) { return (int32_t)(next - e.first) >= 0; });
            if (it == early.end()) break;
            Bytes kept = std::move(it->second);
            uint32_t at = it->first;
            earlyBytes -= kept.size();
            early.erase(it);
            take(at, kept.data(), kept.size(), time);
        }
    }

    void take(uint32_t sequence, const uint8_t* bytes, size_t count, uint64_t time) {
        uint32_t behind = next - sequence;
        if (behind >= count) return;
        next += (uint32_t)(count - behind);
        read(bytes + behind, count - behind, time);
    }

    void read(const uint8_t* bytes, size_t count, uint64_t time) {
        while (count && !lost) {
            if (skip) {
                size_t n = std::min<uint64_t>(skip, count);
                skip -= n, bytes += n, count -= n;
                continue;
            }
            size_t n = std::min(wanted() - head.size(), count);
            head.insert(head.end(), bytes, bytes + n);
            bytes += n, count -= n;
            if (head.size() < frame::headerBytes) continue;
            if (bodyLength() < frame::bodyBytesMin || bodyLength() > frame::bodyBytesMax) return giveUp();
            if (head.size() >= wanted()) begin(time);
        }
    }

    uint32_t bodyLength() const {
        uint32_t length;
        memcpy(&length, head.data(), 4);
        return length;
    }

    size_t wanted() const {
        if (head.size() < frame::headerBytes) return frame::headerBytes;
        return frame::headerBytes + std::min<size_t>(bodyLength(), frame::readBytes);
    }

    void begin(uint64_t time) {
        const uint8_t* body = head.data() + frame::headerBytes;
        uint8_t type = body[frame::typeAt];
        framesByType[type % frame::types] += 1;
        if (frame::beginsMessage(type) && bodyLength() >= frame::readBytes) {
            uint64_t target, sender;
            memcpy(&target, body + frame::targetAt, 8);
            memcpy(&sender, body + frame::senderAt, 8);
            pairs[{(uint64_t)from, sender, (uint64_t)to, target}].count(time, bodyLength());
        }
        skip = bodyLength() - std::min<size_t>(bodyLength(), frame::readBytes);
        head.clear();
    }
};

static std::map<std::array<int, 4>, Stream> streams;  // by source's host and port, destination's host and port

/// The parts of an IPv4 packet that carries TCP.
struct TCPPacket {
    uint8_t *ip, *tcp, *payload;
    size_t ipBytes, tcpBytes, payloadBytes;
    int sourcePort, destinationPort;
    uint32_t sequence;
    bool syn;

    /// False for anything else.
    bool read(Bytes& packet) {
        ip = packet.data();
        ipBytes = (ip[0] & 15) * 4;
        size_t whole = ip[2] << 8 | ip[3];
        if (ip[0] >> 4 != 4 || ip[9] != 6 || whole > packet.size() || whole < ipBytes + 20) return false;
        tcp = ip + ipBytes;
        tcpBytes = (tcp[12] >> 4) * 4;
        if (whole < ipBytes + tcpBytes) return false;
        payload = tcp + tcpBytes;
        payloadBytes = whole - ipBytes - tcpBytes;
        sourcePort = tcp[0] << 8 | tcp[1];
        destinationPort = tcp[2] << 8 | tcp[3];
        memcpy(&sequence, tcp + 4, 4);
        sequence = ntohl(sequence);
        syn = tcp[13] & 2;
        return true;
    }

    bool isOfServer() const { return serverPorts.count(sourcePort) || serverPorts.count(destinationPort); }
};

static void countMessages(int from, int to, Bytes& packet, uint64_t time) {
    TCPPacket p;
    if (!p.read(packet) || !p.isOfServer()) return;
    std::array<int, 4> key{from, p.sourcePort, to, p.destinationPort};
    if (p.syn) {
        // The same connection may ask more than once.
        streams.erase(key);
        streams.emplace(key, Stream(from, to, p.sequence + 1));
        return;
    }
    auto found = streams.find(key);
    if (found != streams.end() && p.payloadBytes > 0) {
        found->second.segment(p.sequence, p.payload, p.payloadBytes, time);
    }
}

// MARK: What happens to packets

static uint16_t checksum(const uint8_t* bytes, size_t count, uint32_t start) {
    uint64_t sum = start;
    for (; count > 1; bytes += 2, count -= 2) sum += bytes[0] << 8 | bytes[1];
    if (count) sum += bytes[0] << 8;
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

static void store16(uint8_t* at, uint16_t value) { at[0] = value >> 8, at[1] = value; }

static void mendChecksum(TCPPacket& p) {
    store16(p.tcp + 16, 0);
    size_t count = p.tcpBytes + p.payloadBytes;
    uint32_t pseudo = 6 + count;
    for (int i = 12; i < 20; i += 2) pseudo += p.ip[i] << 8 | p.ip[i + 1];
    store16(p.tcp + 16, checksum(p.tcp, count, pseudo));
}

static void flipBit(Bytes& packet, bool mend) {
    TCPPacket p;
    if (!p.read(packet) || p.payloadBytes == 0) return;
    p.payload[generator() % p.payloadBytes] ^= 1 << (generator() % 8);
    if (mend) mendChecksum(p);
}

/// The packet becomes a reset at its place in the sequence, so that its receiver believes it.
static void makeReset(Bytes& packet) {
    TCPPacket p;
    if (!p.read(packet) || !p.isOfServer()) return;
    p.tcp[12] = 5 << 4;
    p.tcp[13] = 4 | 16;
    p.tcpBytes = 20;
    p.payloadBytes = 0;
    store16(p.ip + 2, p.ipBytes + 20);
    store16(p.ip + 10, 0);
    store16(p.ip + 10, checksum(p.ip, p.ipBytes, 0));
    packet.resize(p.ipBytes + 20);
    mendChecksum(p);
}

/// ICMP's "fragmentation needed", as a router on the way would send it.
static Bytes tooBigNotice(const uint8_t* packet, size_t count, uint16_t mtu) {
    size_t quoted = std::min<size_t>((packet[0] & 15) * 4 + 8, count);
    Bytes notice(28 + quoted);
    notice[0] = 4 << 4 | 5;
    store16(&notice[2], notice.size());
    notice[8] = 64;
    notice[9] = 1;
    memcpy(&notice[12], packet + 16, 4);
    memcpy(&notice[16], packet + 12, 4);
    store16(&notice[10], checksum(notice.data(), 20, 0));
    notice[20] = 3, notice[21] = 4;
    store16(&notice[26], mtu);
    memcpy(&notice[28], packet, quoted);
    store16(&notice[22], checksum(&notice[20], 8 + quoted, 0));
    return notice;
}

struct Travelling {
    uint64_t due, number;
    int to;
    Bytes packet;
};

struct Later {
    bool operator()(const Travelling* a, const Travelling* b) const {
        return a->due != b->due ? a->due > b->due : a->number > b->number;
    }
};

static std::priority_queue<Travelling*, std::vector<Travelling*>, Later> travelling;
static uint64_t departed;

static void depart(uint64_t due, int to, Bytes packet) {
    travelling.push(new Travelling{due, departed++, to, std::move(packet)});
}

static void enter(int from, const uint8_t* bytes, size_t count) {
    if (count < 20 || bytes[0] >> 4 != 4 || bytes[16] != 10 || bytes[17] != 77) return;
    int to = bytes[19] - 1;
    if (to < 0 || to >= hosts) return;
    uint64_t time = now();
    Bytes packet(bytes, bytes + count);
    Direction& d = directions[from][to];
    d.packets += 1;
    d.bytes += count;
    countMessages(from, to, packet, time);
    if (d.down || (d.loss && chance() < d.loss)) {
        d.lost += 1;
        return;
    }
    if ((d.hole && count > d.hole) || (d.mtu && count > d.mtu)) {
        d.tooBig += 1;
        if (d.mtu && count > d.mtu) depart(time, from, tooBigNotice(bytes, count, (uint16_t)d.mtu));
        return;
    }
    uint64_t due = time;
    if (d.rate) {
        uint64_t start = std::max(time, d.freeAt);
        if (start > time + (uint64_t)(d.queue * second)) {
            d.lost += 1;
            return;
        }
        d.freeAt = start + (uint64_t)(count / d.rate * second);
        due = d.freeAt;
    }
    double delay = d.delay;
    if (d.jitter) delay = std::max(0.0, delay + (chance() * 2 - 1) * d.jitter);
    if (d.reorder && chance() < d.reorder) {
        // It overtakes what left before.
        delay = d.delay * 0.3;
        d.reordered += 1;
    }
    due += (uint64_t)(delay * second);
    if (!d.reorder && !d.jitter) d.lastAt = due = std::max(due, d.lastAt);
    if (d.kill) makeReset(packet);
    for (bool mend : {false, true}) {
        double probability = mend ? d.corruptfix : d.corrupt;
        if (!probability || chance() >= probability) continue;
        d.corrupted += 1;
        flipBit(packet, mend);
    }
    if (d.dup && chance() < d.dup) {
        d.duplicated += 1;
        depart(due + second / 1000, to, packet);
    }
    depart(due, to, std::move(packet));
}

static void arrive() {
    uint64_t time = now();
    while (!travelling.empty() && travelling.top()->due <= time) {
        Travelling* t = travelling.top();
        travelling.pop();
        (void)!write(devices[t->to], t->packet.data(), t->packet.size());
        delete t;
    }
}

// MARK: Commands

template <typename Do>
static void forDirections(int from, int to, Do body) {
    for (int i = 0; i < hosts; i++) {
        for (int j = 0; j < hosts; j++) {
            if (i != j && (from < 0 || from == i) && (to < 0 || to == j)) body(i, j, directions[i][j]);
        }
    }
}

static std::string joined(const std::vector<uint64_t>& values) {
    std::string out = "[";
    for (uint64_t v : values) out += (out.size() > 1 ? "," : "") + std::to_string(v);
    return out + "]";
}

static std::string statistics() {
    std::vector<std::string> carried, counted;
    forDirections(-1, -1, [&](int i, int j, Direction& d) {
        carried.push_back(joined({(uint64_t)i, (uint64_t)j, d.packets, d.bytes, d.lost, d.duplicated, d.corrupted,
                                  d.tooBig, d.reordered}));
    });
    for (auto& [key, pair] : pairs) {
        counted.push_back(joined({key[0], key[1], key[2], key[3], pair.messages, pair.inOneSecondMax, pair.bytes}));
    }
    auto list = [](const std::vector<std::string>& rows) {
        std::string out = "[";
        for (auto& row : rows) out += (out.size() > 1 ? "," : "") + row;
        return out + "]";
    };
    std::vector<uint64_t> types(framesByType, framesByType + frame::types);
    return "{\"pairs\":" + list(carried) + ",\"rates\":" + list(counted) + ",\"queued\":" +
           std::to_string(travelling.size()) + ",\"unread\":" + std::to_string(unreadStreams) + ",\"kinds\":" +
           joined(types) + "}";
}

static std::string answer(const std::string& line) {
    int from, to, port;
    char name[32];
    double value;
    if (sscanf(line.c_str(), "set %d %d %31s %lf", &from, &to, name, &value) == 4) {
        if (!Direction().property(name)) return "no such property";
        forDirections(from, to, [&](int, int, Direction& d) { *d.property(name) = value; });
        return "ok";
    }
    if (sscanf(line.c_str(), "port %d", &port) == 1) {
        serverPorts.insert(port);
        return "ok";
    }
    if (line == "clear") {
        forDirections(-1, -1, [](int, int, Direction& d) { d.clear(); });
        return "ok";
    }
    if (line == "reset") {
        forDirections(-1, -1, [](int, int, Direction& d) { d.reset(); });
        pairs.clear();
        std::fill_n(framesByType, frame::types, 0);
        return "ok";
    }
    return line == "stats" ? statistics() : "no such command";
}

/// False at the end of standard input: wan.py is gone.
static bool obey() {
    static std::string pending;
    char buffer[4096];
    ssize_t count = read(0, buffer, sizeof buffer);
    if (count <= 0) return false;
    pending.append(buffer, count);
    for (size_t end; (end = pending.find('\n')) != std::string::npos; pending.erase(0, end + 1)) {
        puts(answer(pending.substr(0, end)).c_str());
    }
    return true;
}

int main(int count, char** arguments) {
    hosts = count > 1 ? atoi(arguments[1]) : 0;
    if (hosts < 1 || hosts > hostsMax || count != 2 + hosts) {
        fprintf(stderr, "usage: nsim N fd1 … fdN, N at most %d\n", hostsMax);
        return 64;
    }
    int poller = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    constexpr uint32_t timerTag = 100, commandTag = 101;
    auto watch = [&](int descriptor, uint32_t tag) {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.u32 = tag;
        epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event);
    };
    for (int i = 0; i < hosts; i++) {
        devices.push_back(atoi(arguments[2 + i]));
        fcntl(devices[i], F_SETFL, fcntl(devices[i], F_GETFL) | O_NONBLOCK);
        watch(devices[i], i);
    }
    watch(timer, timerTag);
    watch(0, commandTag);
    setvbuf(stdout, nullptr, _IOLBF, 0);
    static uint8_t buffer[70000];
    for (;;) {
        if (!travelling.empty()) {
            uint64_t due = travelling.top()->due;
            itimerspec at{};
            at.it_value.tv_sec = due / second;
            at.it_value.tv_nsec = due % second;
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, nullptr);
        }
        epoll_event events[16];
        int ready = epoll_wait(poller, events, 16, 1000);
        for (int i = 0; i < ready; i++) {
            uint32_t tag = events[i].data.u32;
            if (tag == timerTag) {
                uint64_t expirations;
                (void)!read(timer, &expirations, sizeof expirations);
            } else if (tag == commandTag) {
                if (!obey()) return 0;
            } else {
                for (int k = 0; k < 64; k++) {
                    ssize_t n = read(devices[tag], buffer, sizeof buffer);
                    if (n <= 0) break;
                    enter((int)tag, buffer, n);
                }
            }
        }
        arrive();
    }
}
