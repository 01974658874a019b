# One verb per line. What needs more than one command lives in scripts/, which also works where make is missing.

.PHONY: package image unit-check judges tls-judges run test play readme build sim sim-long sim-bugs fuzz tsan asan bench links cluster-long crash powercut libraries clean

run:            ; @sh scripts/run $(ARGS)
test:           ; @sh scripts/test $(ARGS)
play:           ; @sh scripts/play $(ARGS)
readme:         ; @sh scripts/readme
build:          ; @sh scripts/deps && swift build -c release
sim:            ; @sh scripts/sim --count 2000 $(ARGS)
sim-long:       ; @sh scripts/sim --count 100000 $(ARGS)
sim-bugs:       ; @sh scripts/sim --bug all $(ARGS)
fuzz:           ; @sh scripts/fuzz $(ARGS)
tsan:           ; @sh scripts/sanitize thread $(ARGS)
asan:           ; @sh scripts/sanitize address $(ARGS)
cluster-long:   ; @KVD_LONG=1 sh scripts/test --filter ClusterTests $(ARGS)
powercut:       ; @swift build --product kvd && python3 Tests/Disk/powercut.py .build/debug --cycles 1000 $(ARGS)
crash:          ; @KVD_CRASH_CYCLES=200 sh scripts/test --filter CrashTests $(ARGS)
bench:          ; @sh Perf/bench $(ARGS)
links:          ; @sh Perf/links $(ARGS)
differential:   ; @swift build --product kvd && python3 Tests/Differential/differ.py --kvd .build/debug/kvd --commands 1000000 $(ARGS) && python3 Tests/Differential/differ.py --kvd .build/debug/kvd --options 3 $(ARGS)
libraries:      ; @swift build --product kvd && python3 Tests/Libraries/libraries.py --kvd .build/debug/kvd $(ARGS)
package:        ; @sh scripts/package $(ARGS)
image:          ; @python3 scripts/image $(ARGS)
unit-check:     ; @sh scripts/package && sh scripts/unit-check "$$(ls -t .build/package/*.deb | head -1)"
judges:         ; @sh scripts/judges $(ARGS)
tls-judges:     ; @swift build --product kvd && sh scripts/tls-judges .build/debug/kvd
clean:          ; rm -rf .build .build-*
