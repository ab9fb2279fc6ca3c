package reconcile

import (
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

func TestStep(t *testing.T) {
	for name, script := range map[string]string{
		"the first Set is believed": `
			0s dns b a => a#1 b#2`,
		"the same again changes nothing": `
			0s dns a b => a b
			5s dns b a => a b
			5s dns b a b => a b`,
		"an empty first answer is believed: nothing to protect": `
			0s dns => none; zero
			5s dns => none
			9s dns a => a`,
		"an authoritative empty first answer too": `
			0s kube => none; zero
			1s kube => none
			2s dns => none`,
		"a first Set of which none is ready": `
			0s kube a! b! => none; zero
			1s kube a! b! => none
			2s kube a b! => a
			3s kube a b => a b`,
		"a failure before anything is known": `
			0s fail => unknown
			1s fail => unknown
			2s dns a => a`,
		"a failure changes nothing, for however long": `
			0s dns a b => a b
			5s fail => a b
			9h fail => a b
			10h tick => a b
			11h dns a b => a b`,

		"growing keeps the IDs": `
			0s dns b => b#1
			1s dns a b c => b#1 a#2 c#3`,
		"a small shrink is believed": `
			0s dns a b c d => a b c d
			5s dns a b => a b`,
		"one of two goes at once: below MinShrink": `
			0s dns a b => a b
			5s dns a => a`,
		"the only one is another": `
			0s dns a => a#1
			5s dns b => b#2`,
		"an ID is never given again": `
			0s dns a b c => a#1 b#2 c#3
			1s dns a b => a#1 b#2
			2s dns a b c => a#1 b#2 c#4`,

		"a large shrink is asked again and confirmed": `
			0s    dns a b c d => a b c d
			5s    dns a => a | b c d; held ask wake 6s
			5.1s  verified a => a | b c d; wake 6s
			6s    tick => a | b c d; ask wake 8s
			6.1s  verified a => a; believed`,
		"a source that cannot be asked confirms in its own time": `
			0s  dns a b c d => a b c d
			5s  dns a => a | b c d; held ask wake 6s
			6s  tick => a | b c d; ask wake 8s
			8s  tick => a | b c d; ask wake 12s
			10s dns a => a; believed`,
		"a large shrink is contradicted": `
			0s   dns a b c d => a#1 b#2 c#3 d#4
			5s   dns a => a#1 | b#2 c#3 d#4; held ask wake 6s
			5.1s verified a b c d => a#1 b#2 c#3 d#4; restored`,
		"contradicted in part: the rest goes like a small shrink": `
			0s   dns a b c d => a b c d
			5s   dns a => a | b c d; held ask wake 6s
			5.1s verified a b c => a b c; restored`,
		"contradicted in part, and the rest is still too much": `
			0s   dns a b c d e f g h => a b c d e f g h
			5s   dns a => a | b c d e f g h; held ask wake 6s
			6s   dns a b => a b | c d e f g h; restored ask wake 8s
			6.5s dns a b => a b | c d e f g h; wake 8s
			7s   dns a b => a b; believed`,
		"a shrink within the shrink is held against the whole": `
			0s   dns a b c d e => a b c d e
			5s   dns a b => a b | c d e; held ask wake 6s
			5.9s dns a => a | b c d e; held wake 6s
			6s   tick => a | b c d e; ask wake 8s
			6.8s dns a => a | b c d e; wake 8s
			6.9s dns a => a; believed`,
		"nothing confirms or contradicts it": `
			0s  dns a b c d => a b c d
			5s  dns a => a | b c d; held ask wake 6s
			6s  tick => a | b c d; ask wake 8s
			64s tick => a | b c d; ask wake 1m5s
			65s tick => a; expired`,
		"new endpoints do not disturb the confirmation": `
			0s  dns a b c d => a#1 b#2 c#3 d#4
			5s  dns a e f g => a#1 e#5 f#6 g#7 | b#2 c#3 d#4; held ask wake 6s
			6s  dns a e f g h => a#1 e#5 f#6 g#7 h#8; believed`,
		"new endpoints do not make the shrink smaller": `
			0s   dns a b c d => a b c d
			5s   dns a => a | b c d; held ask wake 6s
			5.1s dns a e f g h i j k => a e f g h i j k | b c d; wake 6s`,
		"all are others": `
			0s dns a b => a#1 b#2
			5s dns c d => c#3 d#4 | a#1 b#2; held ask wake 6s
			6s dns c d => c#3 d#4; believed`,
		"a plain answer confirms no more once looking failed": `
			0s   dns a b c d => a b c d
			5s   dns a => a | b c d; held ask wake 6s
			6s   fail => a | b c d
			9s   fail => a | b c d
			10s  dns a => a | b c d; ask wake 12s
			15s  dns a => a | b c d; ask wake 19s
			16s  verified a => a; believed`,
		"failures stop the clock": `
			0s  dns a b c d => a b c d
			5s  dns a => a | b c d; held ask wake 6s
			15s fail => a | b c d
			99s fail => a | b c d
			10m tick => a | b c d
			615s dns a => a | b c d; ask wake 10m17s
			664s dns a => a | b c d; ask wake 11m5s
			665s tick => a; expired`,
		"what an expired hold leaves is the new measure": `
			0s  dns a b c d => a b c d
			5s  dns a b! => a | b c d; held ask wake 6s
			65s tick => a; expired
			70s dns b => b`,

		"an empty answer is not believed for the grace time": `
			0s  dns a b => a b
			5s  dns => | a b; held ask wake 6s
			6s  tick => | a b; ask wake 8s
			10s dns => | a b; ask wake 14s
			60s dns => | a b; ask wake 1m5s
			65s tick => none; zero
			70s dns => none
			75s dns a => a`,
		"NXDOMAIN while a pod restarts": `
			0s  dns a b => a#1 b#2
			5s  dns => | a#1 b#2; held ask wake 6s
			10s dns b c => b#2 c#3; restored`,
		"the empty answer of one": `
			0s  dns a => a
			5s  dns => | a; held ask wake 6s
			65s dns => none; zero`,
		"empty, then some, then all": `
			0s   dns a b c d => a#1 b#2 c#3 d#4
			5s   dns => | a#1 b#2 c#3 d#4; held ask wake 6s
			10s  dns a => a#1 | b#2 c#3 d#4; restored ask wake 12s
			10.9s dns a => a#1 | b#2 c#3 d#4; wake 12s
			10.95s dns d a c b => a#1 b#2 c#3 d#4; restored`,
		"empty, then some: that is the truth now": `
			0s  dns a b c d => a b c d
			5s  dns => | a b c d; held ask wake 6s
			60s dns a => a | b c d; restored ask wake 1m2s
			65s dns a => a; believed`,
		"some, then empty, then the same: the grace is of the empty answer": `
			0s  dns a b c d => a b c d
			5s  dns a => a | b c d; held ask wake 6s
			5.5s dns => | a b c d; held wake 6s
			10s dns a => a | b c d; restored ask wake 12s
			15s dns a => a; believed`,
		"some and none by turns end by the limit": `
			0s   dns a b c d e f => a b c d e f
			5s   dns a => a | b c d e f; held ask wake 6s
			30s  dns => | a b c d e f; held ask wake 32s
			60s  dns a b => a b | c d e f; restored ask wake 1m4s
			90s  dns => | a b c d e f; held ask wake 1m38s
			120s dns a c => a c | b d e f; restored ask wake 2m5s
			125s dns => | a b c; held expired wake 2m16s`,
		"failures do not make an empty answer older": `
			0s  dns a b => a b
			5s  dns => | a b; held ask wake 6s
			6s  fail => | a b
			70s fail => | a b
			80s dns => | a b; ask wake 1m22s
			138s dns => | a b; ask wake 2m19s
			139s dns => none; zero`,
		"an authoritative empty Set ends the grace": `
			0s dns a b => a b
			5s dns => | a b; held ask wake 6s
			6s kube => none; believed zero`,

		"an authoritative Set is believed at once": `
			0s kube a b c d => a b c d
			1s kube a => a
			2s kube => none; zero`,
		"also over what is held": `
			0s dns a b c d => a b c d
			5s dns a => a | b c d; held ask wake 6s
			6s kube a b => a b; restored
			7s dns a b => a b`,
		"also when it says the same": `
			0s dns a b c d => a b c d
			5s dns a => a | b c d; held ask wake 6s
			5.5s kube a => a; believed`,
	} {
		t.Run(name, func(t *testing.T) { newScene(t, DefaultConfig()).play(script) })
	}
}

func TestStepConditions(t *testing.T) {
	for name, script := range map[string]string{
		"not ready: the listed members stay as a last resort": `
			0s kube a b c => a b c
			1s kube a! b! => a! b!
			2s kube a! b! => a! b!
			3s kube a! b => b
			4s kube a b => b a`,
		"none of the members is listed, and none of the listed is ready": `
			0s kube a/1 b/2 => a/1 b/2
			1s kube c/3! => none; zero`,
		"the same from a source that may be wrong": `
			0s dns a b => a b
			1s dns c! => | a b; held ask wake 2s
			61s dns c! => none; zero`,
		"not ready and known by halves": `
			0s kube aA => aA
			1s kube a! A! => a!`,
		"none ready, but some serve while they terminate": `
			0s kube a b => a b
			1s kube a~ b! => a~
			2s kube a~ bx => a~
			3s kube ax bx => ax`,
		"terminating ones go and are never held": `
			0s dns a b c d => a b c d
			1s dns a b~ cx dx => a`,
		"a held one that is told to terminate goes, and the others are confirmed": `
			0s dns a b c d e f => a b c d e f
			1s dns a => a | b c d e f; held ask wake 2s
			2s dns a bx => a; believed`,
		"a held one that goes does not hide one that is newly missing": `
			0s dns a b c d e f => a b c d e f
			1s dns a b => a b | c d e f; held ask wake 2s
			2s dns a cx => a | b d e f; held ask wake 4s`,
		"terminating ones do not count, the others do": `
			0s dns a b c d e f g => a b c d e f g
			1s dns a b~ cx => a | d e f g; held ask wake 2s
			2s dns a b~ cx => a; believed`,
	} {
		t.Run(name, func(t *testing.T) { newScene(t, DefaultConfig()).play(script) })
	}
}

func TestStepIdentity(t *testing.T) {
	for name, script := range map[string]string{
		"dns to kube: the UID is learned, the ID stays": `
			0s dns a b => a#1 b#2
			1s kube a/1 b/2 => a/1#1 b/2#2`,
		"kube to dns: the UID stays": `
			0s kube a/1 b/2 => a/1#1 b/2#2
			1s dns a b => a/1#1 b/2#2
			2s dns a b => a/1#1 b/2#2
			3s kube a/1 b/2 => a/1#1 b/2#2`,
		"kube to dns to kube: meanwhile another pod got the address": `
			0s kube a/1 b/2 => a/1#1 b/2#2
			1s dns a b => a/1#1 b/2#2
			2s kube a/3 b/2 => b/2#2 a/3#3`,
		"both families to one and back": `
			0s kube aA/1 bB/2 => aA/1#1 bB/2#2
			1s dns a b => aA/1#1 bB/2#2
			2s dns a b => aA/1#1 bB/2#2
			3s dns A B => aA/1#1 bB/2#2
			4s kube aA/1 bB/2 => aA/1#1 bB/2#2`,
		"both families to two addresses of one": `
			0s kube aA/1 => aA/1#1
			1s dns ac => aAc/1#1`,
		"the preferred family changes": `
			0s dns aA => aA#1
			1s dns Aa => Aa#1`,
		"one family to both": `
			0s dns A B => A#1 B#2
			1s kube aA/1 bB/2 => aA/1#1 bB/2#2`,
		"an authoritative Set takes an address away": `
			0s kube aA/1 => aA/1#1
			1s kube a/1 => a/1#1
			2s kube A/1 => A/1#2`,
		"an address that is kept goes to who has it now": `
			0s kube aA/1 b/2 => aA/1#1 b/2#2
			1s dns a bA => a/1#1 bA/2#2`,
		"an address that is kept, and a new endpoint has it": `
			0s kube aA/1 => aA/1#1
			1s dns a A => a/1#1 A#2`,
		"two members turn out to be one pod": `
			0s dns a A => a#1 A#2
			1s kube aA/1 => aA/1#1`,
		"another UID at the address is another pod": `
			0s kube a/1 => a/1#1
			1s kube a/2 => a/2#2`,
		"all pods are others at the same addresses": `
			0s kube a/1 b/2 c/3 => a/1#1 b/2#2 c/3#3
			1s kube a/4 b/5 c/6 => a/4#4 b/5#5 c/6#6`,
		"a held one comes back with another UID": `
			0s kube a/1 b/2 c/3 => a/1#1 b/2#2 c/3#3
			1s dns a => a/1#1 | b/2#2 c/3#3; held ask wake 2s
			2s kube a/1 b/4 => a/1#1 b/4#4; believed
			3s kube a/1 b/4 => a/1#1 b/4#4`,
		"a held one comes back with another UID, from a source that may be wrong": `
			0s dns a/1 b/2 c/3 d/4 e/5 => a/1#1 b/2#2 c/3#3 d/4#4 e/5#5
			1s dns a/1 => a/1#1 | b/2#2 c/3#3 d/4#4 e/5#5; held ask wake 2s
			1.5s dns a/1 b/6 => a/1#1 b/6#6 | c/3#3 d/4#4 e/5#5; wake 2s`,
		"a held one comes back without a UID": `
			0s kube a/1 b/2 c/3 => a/1#1 b/2#2 c/3#3
			1s dns a => a/1#1 | b/2#2 c/3#3; held ask wake 2s
			2s dns a b c => a/1#1 b/2#2 c/3#3; restored`,
		"a held one comes back by its other family": `
			0s kube aA/1 bB/2 cC/3 => aA/1#1 bB/2#2 cC/3#3
			1s dns a => aA/1#1 | bB/2#2 cC/3#3; held ask wake 2s
			2s dns A B C => aA/1#1 bB/2#2 cC/3#3; restored`,
		"duplicates are one": `
			0s dns a a b b/1 => a#1 b/1#2
			1s dns b a b => a#1 b/1#2`,
		"what else changes keeps the ID": `
			0s kube a/1 b/2 => a/1#1 b/2#2
			1s kube a/1! b/2 => b/2#2
			2s kube a/1 b/2 => b/2#2 a/1#3`,
	} {
		t.Run(name, func(t *testing.T) { newScene(t, DefaultConfig()).play(script) })
	}
}

func TestStepConnections(t *testing.T) {
	for name, script := range map[string]string{
		"a held member whose connection ended goes": `
			0s dns a b c d => a#1 b#2 c#3 d#4
			1s dns a => a#1 | b#2 c#3 d#4; held ask wake 2s
			1.1s ended #3 => a#1 | b#2 d#4; wake 2s
			1.2s ended #3 => a#1 | b#2 d#4; wake 2s
			1.3s goaway #2 => a#1 | d#4; wake 2s
			1.4s ended #4 => a#1; believed`,
		"what is left is confirmed although it is fewer": `
			0s dns a b c d e f => a#1 b#2 c#3 d#4 e#5 f#6
			1s dns a => a#1 | b#2 c#3 d#4 e#5 f#6; held ask wake 2s
			1.5s ended #6 => a#1 | b#2 c#3 d#4 e#5; wake 2s
			2s dns a => a#1; believed`,
		"what is left is so little that nothing confirms it": `
			0s dns a b c d => a#1 b#2 c#3 d#4
			1s dns a => a#1 | b#2 c#3 d#4; held ask wake 2s
			1.1s ended #2 => a#1 | c#3 d#4; wake 2s
			1.2s ended #3 => a#1 | d#4; wake 2s
			1.3s dns a => a#1; believed`,
		"one that went and is listed again is a new one": `
			0s dns a b c d => a#1 b#2 c#3 d#4
			1s dns a => a#1 | b#2 c#3 d#4; held ask wake 2s
			1.5s ended #2 => a#1 | c#3 d#4; wake 2s
			1.6s dns a b c d => a#1 c#3 d#4 b#5; restored`,
		"the last connection ends in the grace time": `
			0s dns a b => a#1 b#2
			1s dns => | a#1 b#2; held ask wake 2s
			1.5s ended #1 => | b#2; wake 2s
			1.6s ended #2 => none; zero
			2s dns => none
			3s dns a => a#3`,
		"a believed member is only noted": `
			0s dns a b => a b
			1s ended #1 => a b
			2s dns a b => a b`,
		"a stranger's ID": `
			0s dns a => a
			1s ended #7 => a
			1s goaway #7 => a
			1s connected #7 => a`,
		"GOAWAY before the answer that lacks it: never held": `
			0s dns a b c d e => a#1 b#2 c#3 d#4 e#5
			1s goaway #4 => a#1 b#2 c#3 d#4 e#5
			1s goaway #5 => a#1 b#2 c#3 d#4 e#5
			5s dns a b c => a#1 b#2 c#3`,
		"GOAWAY of some: only the others are held": `
			0s dns a b c d => a#1 b#2 c#3 d#4
			1s goaway #4 => a#1 b#2 c#3 d#4
			2s connected #1 => a#1 b#2 c#3 d#4
			5s dns e => e#5 | a#1 b#2 c#3; held ask wake 6s`,
		"GOAWAY before an empty answer": `
			0s dns a b => a#1 b#2
			1s goaway #2 => a#1 b#2
			5s dns => | a#1; held ask wake 6s`,
		"GOAWAY of all before an empty answer": `
			0s dns a b => a#1 b#2
			1s goaway #2 => a#1 b#2
			1s goaway #1 => a#1 b#2
			5s dns => none; zero`,
		"GOAWAY of a connection that only grew old": `
			0s dns a b => a#1 b#2
			1s goaway #1 => a#1 b#2
			2s connected #1 => a#1 b#2
			5s dns => | a#1 b#2; held ask wake 6s`,
		"a GOAWAY wears off": `
			0s  dns a b => a#1 b#2
			1s  goaway #1 => a#1 b#2
			61s dns => | a#1 b#2; held ask wake 1m2s`,
	} {
		t.Run(name, func(t *testing.T) { newScene(t, DefaultConfig()).play(script) })
	}
}

func TestStepConfig(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		script string
	}{
		"no grace": {func(c *Config) { c.EmptyGrace = 0 }, `
			0s dns a b => a b
			1s dns => none; held zero`},
		"never ask": {func(c *Config) { c.MaxShrink = 1 }, `
			0s dns a b c d => a b c d
			1s dns e => e`},
		"always ask": {func(c *Config) { c.MaxShrink, c.MinShrink = 0, 1 }, `
			0s dns a b c d => a b c d
			1s dns a b c => a b c | d; held ask wake 2s
			2s dns a b c => a b c; believed`},
		"any second answer confirms": {func(c *Config) { c.ConfirmAfter = 0 }, `
			0s dns a b c d => a b c d
			1s dns a => a | b c d; held ask wake 1.1s
			1s dns a => a; believed`},
		"no hold": {func(c *Config) { c.ConfirmAfter, c.HoldFor = 0, 0 }, `
			0s dns a b c d => a b c d
			1s dns a => a; held expired`},
		"long hold: questions become rare": {func(c *Config) { c.ConfirmAfter, c.HoldFor = time.Minute, time.Hour }, `
			0s dns a b c d => a b c d
			1s dns a => a | b c d; held ask wake 1m1s
			61s tick => a | b c d; ask wake 2m1s`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultConfig()
			c.change(&cfg)
			if err := cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			newScene(t, cfg).play(c.script)
		})
	}
}

func TestResume(t *testing.T) {
	for name, script := range map[string]string{
		"nothing known": `
			0s resume => unknown
			1s dns a => a#1`,
		"young: shown at once, and guarded": `
			0s  dns a b c => a#1 b#2 c#3
			30s tick => a#1 b#2 c#3
			90s resume => a#1 b#2 c#3
			91s dns a => a#1 | b#2 c#3; held ask wake 1m32s`,
		"young, the same answer": `
			0s  dns a b => a#1 b#2
			50s resume => a#1 b#2
			51s dns a b => a#1 b#2`,
		"old: waits for the first answer, which is believed": `
			0s  dns a b c d => a#1 b#2 c#3 d#4
			61s resume => unknown
			62s dns d e => d#4 e#5
			63s dns d e => d#4 e#5`,
		"old, the same answer": `
			0s  dns a b => a#1 b#2
			61s resume => unknown
			62s dns a b => a#1 b#2`,
		"old, and the first look fails": `
			0s  dns a b => a#1 b#2
			61s resume => unknown
			62s fail => a#1 b#2
			63s fail => a#1 b#2
			64s dns a => a#1`,
		"old, and the first answer is empty": `
			0s  dns a b => a#1 b#2
			61s resume => unknown
			62s dns => none; zero
			63s dns a => a#3`,
		"a life without an answer makes nothing younger": `
			0s  dns a b => a#1 b#2
			40s resume => a#1 b#2
			50s tick => a#1 b#2
			61s resume => unknown
			62s tick => unknown
			63s resume => unknown
			64s fail => a#1 b#2`,
		"old, resumed twice": `
			0s  dns a b => a#1 b#2
			61s resume => unknown
			62s resume => unknown
			63s dns a b => a#1 b#2`,
		"connections are not there to be held": `
			0s dns a b c => a#1 b#2 c#3
			1s dns a => a#1 | b#2 c#3; held ask wake 2s
			2s resume => a#1
			3s dns a => a#1
			4s dns a b => a#1 b#4`,
		"all were held: nothing is known": `
			0s dns a b => a#1 b#2
			1s dns => | a#1 b#2; held ask wake 2s
			2s resume => unknown
			3s dns a => a#3`,
		"zero is not remembered": `
			0s dns => none; zero
			1s resume => unknown`,
		"a GOAWAY is not remembered": `
			0s dns a b => a#1 b#2
			1s goaway #1 => a#1 b#2
			2s resume => a#1 b#2
			3s dns => | a#1 b#2; held ask wake 4s`,
		"a watch was silent for hours, failed and became idle": `
			0s    kube a => a
			3h    fail => a
			3h50s resume => a`,
		"failing before: the age counts from the last time that it worked": `
			0s  dns a => a
			30s fail => a
			80s fail => a
			91s resume => unknown
			92s fail => a`,
	} {
		t.Run(name, func(t *testing.T) { newScene(t, DefaultConfig()).play(script) })
	}
}

// TestStepKeepsWhatIsKnown: a source that knows no UID knows no pod, and does
// not take away what is known of it. One that knows the UID is right about all.
func TestStepKeepsWhatIsKnown(t *testing.T) {
	cfg, now := DefaultConfig(), time.Unix(1_000_000, 0)
	kube := ep("a/1")
	kube.Name, kube.Node, kube.Zone, kube.ForZones = "ns/pod", "node", "zone", []string{"zone"}
	named, moved := ep("a"), ep("a/1")
	named.Name, named.Weight = "10-0-0-97.square", 3
	moved.Name = "ns/other"
	state, _ := Step(cfg, State{}, now, Answer{endpoint.Set{Authoritative: true, Endpoints: []endpoint.Endpoint{kube}}})
	state, _ = Step(cfg, state, now, Answer{endpoint.Set{Endpoints: []endpoint.Endpoint{named}}})
	want := kube
	want.Weight = 3
	if got := state.Members()[0].Endpoint; !got.Equal(want) {
		t.Errorf("after DNS the endpoint is %+v", got)
	}
	state, _ = Step(cfg, state, now, Answer{endpoint.Set{Endpoints: []endpoint.Endpoint{moved}}})
	if got := state.Members()[0].Endpoint; !got.Equal(moved) {
		t.Errorf("after an answer with the UID it is %+v", got)
	}
	state, _ = Step(cfg, State{}, now, Answer{endpoint.Set{Endpoints: []endpoint.Endpoint{ep("a")}}})
	state, _ = Step(cfg, state, now, Answer{endpoint.Set{Endpoints: []endpoint.Endpoint{named}}})
	if got := state.Members()[0].Endpoint; !got.Equal(named) {
		t.Errorf("a name that DNS learns is not taken: %+v", got)
	}
}

// TestSameSetIsCheap: most answers are the one before.
func TestSameSetIsCheap(t *testing.T) {
	cfg, now := DefaultConfig(), time.Unix(1_000_000, 0)
	in := Input(Answer{endpoint.Set{Endpoints: many(1_000, true)}})
	state, _ := Step(cfg, State{}, now, in)
	again := Input(Answer{endpoint.Set{Endpoints: many(1_000, true)}})
	if n := testing.AllocsPerRun(10, func() { Step(cfg, state, now, again) }); n != 0 {
		t.Errorf("%v allocations for a Set that changes nothing", n)
	}
}
