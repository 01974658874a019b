// Files, slow disks and power cuts: scripts in Tests/Disk drive real processes, as they also do for `make powercut`.

import Foundation
import KVTestTraits
import Testing

@Suite(.blocking) struct DiskScriptTests {
    private static let folder: String = {
        let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        return tests.appendingPathComponent("Disk").path
    }()
    private static let notAllowed: Int32 = 77
    private static let notInstalled: Int32 = 78

    private func run(_ script: String, _ arguments: [String]) throws {
        guard let python = Tool.path("python3") else { return skip("python3 is not installed", isTool: true) }
        let ended = try Tool.run(python, ["\(Self.folder)/\(script)", KVDProcess.directory.path] + arguments)
        if [Self.notAllowed, Self.notInstalled].contains(ended.code) {
            return skip(ended.output, isTool: ended.code == Self.notInstalled)
        }
        #expect(ended.code == 0, "\(ended.output)\(ended.errors)")
    }

    /// What is not installed is a failure where KVD_REQUIRE_TOOLS is set, as the CI does; what is not allowed, nowhere.
    private func skip(_ why: String, isTool: Bool) {
        print(why)
        #expect(!isTool || ProcessInfo.processInfo.environment["KVD_REQUIRE_TOOLS"] == nil, "\(why)")
    }

    @Test(
        .waitingLimit,
        arguments: [
            "an_export_is_loaded_by_redis", "what_redis_wrote_is_imported", "an_append_only_file_of_redis_is_imported",
            "a_damaged_file_changes_nothing", "backups_are_made_while_the_server_runs", "check_finds_every_damage",
            "a_backup_rejoins_and_newer_writes_win", "an_imported_backup_is_new",
            "after_a_new_epoch_older_servers_are_refused", "a_restore_is_refused_where_it_cannot_be",
        ])
    func files(_ test: String) throws { try run("files.py", [test]) }

    @Test(
        .waitingLimit,
        arguments: [
            "a_frozen_disk_holds_writers_only_everysec", "a_frozen_disk_holds_writers_only_always",
            "a_large_value_holds_nobody_else",
        ])
    func slowDisks(_ test: String) throws { try run("slow.py", [test]) }

    @Test(
        .waitingLimit,
        arguments: [
            "a_damaged_log_is_fetched_again", "a_damaged_snapshot_is_fetched_again",
            "alone_it_is_refused_and_repaired_on_demand",
        ])
    func damage(_ test: String) throws { try run("damage.py", [test]) }

    @Test(.waitingLimit, arguments: ["always", "everysec"])
    func powerCuts(_ policy: String) throws {
        try run("powercut.py", ["--policy", policy, "--cycles", "3", "--seed", "1"])
    }
}
