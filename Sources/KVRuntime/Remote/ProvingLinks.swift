// Accepted links whose handshake is under way, by the host they come from. A part of `RemoteTransport`; its loop only.

import KVBase

/// Kept as they come and go: beside a thousand strangers nobody is looked for among all.
struct ProvingLinks {
    private var hosts: [UInt64: String] = [:]
    /// Of each host in the order in which they began.
    private var links: [String: [UInt64]] = [:]

    var count: Int { hosts.count }

    mutating func begin(_ link: UInt64, of host: String) {
        guard hosts.updateValue(host, forKey: link) == nil else { return }
        links[host, default: []].append(link)
    }

    /// It has proved itself or is gone; also if it never began. O(links of its host).
    mutating func end(_ link: UInt64) {
        guard let host = hosts.removeValue(forKey: link) else { return }
        links[host]!.remove(at: links[host]!.firstIndex(of: link)!)
        if links[host]!.isEmpty { links[host] = nil }
    }

    /// The first of the host that has most of them; of several such hosts the one whose first began first. O(hosts).
    var oldestOfMost: UInt64? {
        links.values.max { ($0.count, $1[0]) < ($1.count, $0[0]) }?.first
    }

    func checkInvariants() {
        check(links.values.reduce(0) { $0 + $1.count } == hosts.count && links.values.allSatisfy { !$0.isEmpty })
    }
}
