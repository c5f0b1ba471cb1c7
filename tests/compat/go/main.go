// Runs scenarios with the stock Go client against a cluster that is already up.
//
//	compat -namesrv host:port[;host:port] -brokers name=host:port[,…] SCENARIO[,SCENARIO…]|all|list
//
// One JSON line per scenario (ok, figures, reasons), as the Java driver prints them; exit code 0 = all hold. They run
// side by side: the client waits a lot (rebalance, offsets), and each scenario has topics and groups of its own.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2/rlog"
)

const maxReasons = 20

// result is what one scenario found: figures to print, and the reasons why it does not hold (none: it holds).
type result struct {
	mutex   sync.Mutex
	figures map[string]any
	reasons []string
}

func (r *result) figure(name string, value any) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.figures[name] = value
}

func (r *result) check(holds bool, format string, args ...any) {
	if !holds {
		r.mutex.Lock()
		defer r.mutex.Unlock()
		r.reasons = append(r.reasons, fmt.Sprintf(format, args...))
	}
}

func (r *result) line(name string, took time.Duration) string {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.figures["scenario"] = name
	r.figures["ok"] = len(r.reasons) == 0
	r.figures["took_ms"] = took.Milliseconds()
	if count := len(r.reasons); count > 0 {
		r.figures["reasons_count"] = count
		if count > maxReasons {
			count = maxReasons
		}
		r.figures["reasons"] = r.reasons[:count]
	}
	text, err := json.Marshal(r.figures)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// run gives a scenario its rig and turns a panic of ours (an unmet wait, an unexpected error) into a reason.
func run(s scenario, namesrv []string, brokers map[string]string) (r *result) {
	r = &result{figures: map[string]any{}}
	g := newRig(s.name, namesrv, brokers, r)
	defer func() {
		if e := recover(); e != nil {
			r.check(false, "%v", e)
		}
		g.close()
	}()
	s.run(g, r)
	return r
}

func main() {
	namesrv := flag.String("namesrv", "", "name servers, separated by ;")
	brokerList := flag.String("brokers", "", "name=host:port, separated by commas")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: compat -namesrv … -brokers … SCENARIO[,SCENARIO]|all|list")
		os.Exit(64)
	}
	rlog.SetLogLevel("error")
	brokers := map[string]string{}
	for _, pair := range strings.Split(*brokerList, ",") {
		name, address, _ := strings.Cut(pair, "=")
		brokers[name] = address
	}
	wanted := strings.Split(flag.Arg(0), ",")
	var lines sync.Mutex
	var all sync.WaitGroup
	failed := false
	for _, s := range scenarios {
		if flag.Arg(0) == "list" {
			fmt.Println(s.name)
			continue
		}
		if flag.Arg(0) != "all" && !contains(wanted, s.name) {
			continue
		}
		all.Add(1)
		go func(s scenario) {
			defer all.Done()
			start := time.Now()
			r := run(s, strings.Split(*namesrv, ";"), brokers)
			line := r.line(s.name, time.Since(start))
			lines.Lock()
			defer lines.Unlock()
			failed = failed || len(r.reasons) > 0
			fmt.Println(line)
		}(s)
	}
	all.Wait()
	if failed {
		os.Exit(1)
	}
}

func contains(list []string, word string) bool {
	for _, w := range list {
		if w == word {
			return true
		}
	}
	return false
}
