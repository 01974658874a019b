// Coins into hardware, and coins to others. Every purchase is one write of one record (rule R5). Called by the session.

import KVBase

extension GameSession {
    func shop() {
        let (total, coins) = (total, coins)
        let rows = Item.allCases.map { item in
            let owned = total.owned(item)
            let price = balance.price(item, owned: owned)
            // A unit adds on average half its power to a hit.
            let perTry = Double(balance.mineHitPercent) / 100 * Double(item.power) / 2
            return ShopRow(
                item: item, price: price, owned: owned, isUnlocked: item.unlockedAt <= record.rank,
                paybackTries: Int64((Double(price) / perTry).rounded(.up)),
                affordable: balance.affordable(item, owned: owned, coins: coins, wanted: amountMax).count)
        }
        emit(.shop(rows, coins: coins))
        hint("shop", "`buy cpu` buys as many as you can pay, `buy cpu 1` just one; `mine 10` brings coins.")
    }

    func inventory() {
        let total = total
        let rows = Item.allCases.filter { total.owned($0) > 0 }.map { InventoryRow(item: $0, count: total.owned($0)) }
        emit(.inventory(rows, coins: coins, power: total.power))
    }

    func buy(_ arguments: [String]) {
        let sold = Item.allCases.filter { $0.unlockedAt <= record.rank }.map(\.key).joined(separator: ", ")
        guard let word = arguments.first else {
            return fail("Buy what?", "type `buy max` or `buy cpu`; for sale: \(sold)")
        }
        if word.lowercased() == "max", arguments.count == 1 { return buyBest() }
        guard let item = Item(word: word) else {
            return fail("The shop has no \"\(clip(word))\"", "for sale: \(sold)")
        }
        guard item.unlockedAt <= record.rank else {
            return fail("\(item.title(2)) are for \(item.unlockedAt.title) and up", "for sale to you: \(sold)")
        }
        let (total, coins) = (total, coins)
        let owned = total.owned(item)
        var wanted = amountMax
        if arguments.count > 1, arguments[1].lowercased() != "max" {
            guard let number = Int64(arguments[1]), number >= 1 else {
                return fail(
                    "\"\(clip(arguments[1]))\" is no number of \(item.title(2))",
                    "type `buy \(item.key) 2` or `buy \(item.key) max`")
            }
            wanted = number
        }
        let (count, cost) = balance.affordable(item, owned: owned, coins: coins, wanted: wanted)
        guard count > 0, count == wanted || wanted == amountMax else {
            let price = balance.price(item, owned: owned)
            if count == 0 {
                let short = price - coins
                return fail(
                    "\(article(item, isFirst: true)) costs \(Show.number(price)); you are short by \(Show.coins(short))",
                    "`mine 10` brings more")
            }
            return fail(
                "Your \(Show.coins(coins)) pay for \(Show.number(count)), not \(Show.number(wanted))",
                "type `buy \(item.key) max`")
        }
        take([(item, count)], cost: cost)
    }

    private func buyBest() {
        let (total, coins) = (total, coins)
        let (items, cost) = balance.bestPurchase({ total.owned($0) }, upTo: record.rank, coins: coins)
        guard cost > 0 else {
            let cheapest =
                Item.allCases.filter { $0.unlockedAt <= record.rank }
                .map { balance.price($0, owned: total.owned($0)) }.min() ?? 1
            return fail(
                "The cheapest unit costs \(Show.coins(cheapest)); you have \(Show.coins(coins))",
                "`mine 10` brings more")
        }
        take(items, cost: cost)
    }

    /// A purchase is one write of one record, whatever it holds.
    private func take(_ items: [(item: Item, count: Int64)], cost: Int64) {
        begin()
        sheet.buy(items, cost: cost)
        commit { [unowned self] in
            hints.note("buy")
            emit(.bought(items, cost: cost, coins: coins, power: power))
            adviseAfterBuying()
            finish()
        }
    }

    // MARK: gifts

    func gift(_ arguments: [String]) {
        guard arguments.count == 2 else { return fail("Give whom how much?", "type `gift ada 10`") }
        guard let amount = Int64(arguments[1]), amount >= 1 else {
            return fail("\"\(clip(arguments[1]))\" is no number of coins", "type `gift \(clip(arguments[0])) 10`")
        }
        findPlayer(arguments[0]) { [unowned self] receiver, shown in
            guard receiver != pid else {
                return fail("You move your coins from one pocket to the other", "name somebody else")
            }
            guard amount <= coins else {
                return fail("You have \(Show.coins(max(0, coins)))", "give less, or `mine 10` first")
            }
            let total = total
            let today = correctedWall / 86_400_000
            let given = record.options.giftDay == today ? record.options.giftToday : 0
            let most = total.earned * balance.giftPercentPerDay / 100
            guard given.adding(amount) <= most else {
                return fail(
                    "A day's gifts are a tenth of what you earned at most: \(Show.coins(max(0, most - given))) left",
                    "give less, or tomorrow")
            }
            guard record.total.given[receiver] != nil || record.total.given.count < Ledger.receiversMax else {
                return fail(
                    "You have given to \(Ledger.receiversMax) people from this terminal", "give to one of them again")
            }
            begin()
            sheet.give(amount, to: receiver, day: today, today: given.adding(amount))
            commit { [unowned self] in
                publishGift(to: receiver, from: slot, record.total.given[receiver] ?? 0)
                emit(.gifted(to: shown, amount: amount, coins: coins))
                finish()
            }
        }
    }

    func publishGift(to receiver: String, from slot: Int, _ coins: Int64) {
        let value = JSON.object([("v", .number(1)), ("c", .number(coins)), ("name", .string(displayName))])
        publish(keys.gift(to: receiver, from: pid, slot), value.bytes)
    }

    /// Counts what others gave: what the gift says, but never more than the giver's own record was charged with.
    func readGifts(_ done: @escaping () -> Void) {
        let prefix = keys.gifts(to: pid)
        list(prefix) { [unowned self] pairs in
            guard let pairs else { return done() }
            var claimed: [String: [Int: Int64]] = [:]
            var people: [(String, String)] = []
            for (key, value) in pairs {
                guard let giver = Keys.identifierAndSlot(key, after: prefix), giver.pid != pid,
                    let json = JSON.parse(value),
                    json["v"]?.int == 1
                else {
                    world.noteUnreadable()
                    continue
                }
                let amount = json["c"]?.amount ?? 0
                guard amount > gifts.amount(giver.pid, giver.slot) else { continue }
                claimed[giver.pid, default: [:]][giver.slot] = amount
                people.append((giver.pid, json["name"]?.text ?? ""))
            }
            let givers = claimed.keys.sorted().prefix(50)
            guard !givers.isEmpty else {
                noteGifts(from: nil)
                return done()
            }
            resolve(people) { [unowned self] in
                var waiting = givers.count
                for giver in givers {
                    list(keys.slots(giver)) { [unowned self] pairs in
                        if let pairs {
                            count(giver, claimed[giver] ?? [:], CharacterSlots(pairs, prefix: keys.slots(giver)))
                        }
                        waiting -= 1
                        if waiting == 0 {
                            noteGifts(from: nil)
                            done()
                        }
                    }
                }
            }
        }
    }

    private func count(_ giver: String, _ claimed: [Int: Int64], _ records: CharacterSlots) {
        for (slot, amount) in claimed.sorted(by: { $0.key < $1.key }) {
            let proven = min(amount, records.counted(slot).given[pid] ?? 0)
            gifts.count(proven, from: giver, slot)
        }
        noteGifts(from: giver)
    }

    /// Says what arrived since the last time it was said; the first time, at login, without names.
    func noteGifts(from giver: String?) {
        let sum = gifts.sum
        let news = sum - record.options.giftsSeen
        guard news > 0, visit.isWelcomed else { return }
        sheet.noteGifts(sum)
        if let giver {
            emit(.giftReceived(from: names[giver], amount: news, coins: coins))
        } else {
            emit(.notice("While you were away you were given \(Show.coins(news))."))
        }
    }
}
