// What becomes of one key, record by record, for the trace of `kvd-sim --watch`. Part of SimWorld.
import KVBase
import KVCore

extension SimWorld {
    /// Tells each record of the watched key that an event has changed: its own, its deadline set apart, and parts. And
    /// how far actors have collected.
    func noteWatched(_ event: SimEvent) {
        guard let key = options.watched, isTraced, key >= 0, key < keys.count else { return }
        for actor in actors where actor.isAlive {
            var records: [(name: String, record: Record?)] = [("value", actor.find(key))]
            if keys.total > keys.count { records.append(("deadline", actor.find(keys.count + key))) }
            if isCounter(key) {
                for (number, uid) in oracle.uids.enumerated() {
                    records.append(("part \(number)", actor.partRecord(key, uid)))
                }
            }
            for (name, record) in records {
                noteWatched(name, record.map { describe($0, actor) } ?? "nothing", actor, event)
            }
            noteWatched("floor", actor.floor == 0 ? "nothing" : "\(actor.floor - simEpochMillis)", actor, event)
        }
    }

    private func noteWatched(_ name: String, _ text: String, _ actor: SimActor, _ event: SimEvent) {
        let place = "actor \(actor.view.origin) \(name)"
        if watched[place] ?? "nothing" == text { return }
        watched[place] = text
        say { "WATCH \(place): \(text) by \(event.kind) clock \(actor.corrected - simEpochMillis)" }
    }

    private func describe(_ record: Record, _ actor: SimActor) -> String {
        var text = actor.stamp(of: record, oracle).map { oracle.name($0) } ?? "of nobody"
        if record.isTombstone { text += " deleted" }
        if record.isPart { return text + " " + (record.partText ?? "") }
        guard record.isExtended else { return text }
        let addition = record.addition
        if addition.deadline > 0 { text += " until \(addition.deadline - simEpochMillis)" }
        if let version = addition.version { text += " kept at \(version.ms - simEpochMillis) seq \(version.seq)" }
        for entry in addition.taken?.entries ?? [] {
            text += " taken \(entry.sum) of actor \(oracle.index(of: entry.uid) ?? -1) to \(entry.seq)"
        }
        if let before = addition.taken?.before, before > 0 { text += " taken before \(before - simEpochMillis)" }
        return text
    }
}
