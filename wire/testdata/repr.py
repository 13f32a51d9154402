"""Writes messages of the text form as Python writes them, and what they say as JSON.

Each line is a JSON list: the body, and the strings that went into it. Runs on Python 3
and on Python 2. Arguments: a seed, and how many messages.
"""
import json, random, sys

rnd = random.Random(int(sys.argv[1]))
python3 = sys.version_info[0] == 3
chars = [u"'", u'"', u"\\", u"/", u"[", u"]", u"{", u"}", u",", u" ", u":", u"n", u"x41", u"u0041", u"None",
         u"\n", u"\r", u"\t", u"\0", u"\x07", u"\x7f", u"\x85", u"\xa0", u"\xad", u"\xe4", u"\u4f60", u"\u2028",
         u"\u200b", u"\ufeff", u"\uffff", u"\U0001f600", u"\U000e0001", u"\U0010ffff", u"a", u"']/['", u'"]/["',
         u"', '", u'", "', u"/[]/[]", u"]/[", u"', \"", u"\\'", u"C:\\dir", u"ipconfig"]


def text():
    s = u"".join(rnd.choice(chars) for _ in range(rnd.choice([0, 1, 2, 5, 12])))
    return s if python3 or rnd.random() < .5 or any(ord(c) > 126 for c in s) else str(s)


def texts():
    return [text() for _ in range(rnd.choice([0, 0, 1, 2, 5]))]


def anything(deep=0):
    return rnd.choice([text, texts, lambda: None, lambda: True, lambda: -3.5e-20, lambda: 2 ** 70, lambda: (),
                       lambda: (text(),), lambda: (text(), None), lambda: {},
                       lambda: {text(): anything(deep + 1)} if deep < 9 else 0,
                       lambda: [anything(deep + 1)] if deep < 9 else 0])()


for _ in range(int(sys.argv[2])):
    if rnd.random() < .3:
        info = {"hostname": text(), "localAddrsIPV4": texts(), "MACAddress": text(), "x": anything()}
        body = u"ADH56/keepRogerThat/" + repr(info)
        said = [info["hostname"], info["MACAddress"]] + info["localAddrsIPV4"]
        lists = [len(said)]
    else:
        phase, now, complete, oncall = rnd.choice([u"I", u"II", u"III"]), text() or None, texts(), texts()
        body = u"ADH27%s/keepGotIt/AC131/%s/%s/%s" % (phase, now, repr(complete), repr(oncall))
        said = [now if now not in (None, "None") else ""] + complete + oncall
        lists = [len(complete), len(oncall)]
    sys.stdout.write(json.dumps([body, said, lists]) + "\n")
