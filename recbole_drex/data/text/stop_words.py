"""English words that say little about what a text is about."""

from __future__ import annotations

_VERBS = """
    accept achieve act add affect agree allow appear approach argue arrive ask assume attempt avoid base be bear
    become begin believe blow bother break bring build buy call care carry cast catch cause change check choose
    come compare complain complete consider contain continue cost count create cut deal decide deliver depend
    describe deserve develop die discover do doubt drag draw drive drop earn eat end engage enjoy ensure enter
    exist expect experience explain explore face fail fall feel felt figure fill find finish fit fly focus
    follow force forget gain get give go grab grow guess handle happen hate head hear help hide hit hold hope
    imagine improve include intend introduce involve join jump keep kick know lack lead learn leave lend let lie
    like limit listen live look lose love make manage match mean meet mention miss move need notice offer open
    order own pass pay pick place play point praise present pretend prevent produce promise prove provide pull
    purchase push put reach read realise realize receive recommend refer remain remember remind remove require
    return reveal rise roll run save say see seem sell send serve set share show shut sit sleep sound speak
    spend stand start stay step stick stop struggle succeed suck suffer suggest suppose surprise take talk tell
    tend think thought throw touch treat try turn understand use view visit wait walk want warn waste watch wear
    win wish wonder work worry write
"""

_ADJECTIVES = """
    able actual amaze amazing annoy annoying apt awesome awful bad beautiful best better big bland bore boring
    brief bright brilliant certain cheap clear close common cool correct current decent deep delightful
    different difficult disappoint disappointing dull dumb early easy empty enjoyable enough entertaining entire
    equal exact excellent exciting extra extreme fair familiar fantastic fast favorite favourite fine flat free
    fresh full fun funny general genuine good gorgeous great greatest happy hard heavy high hot huge human ideal
    important impossible impressive incredible interest interesting large last late lazy least left less light
    likable likely little long lot loud lovely low main major many marvelous maximum mediocre memorable mere
    minor modern more most much narrow natural nearly necessary new nice normal obvious odd ok okay old only
    ordinary original outstanding overall particular past perfect personal plain pleasant plenty poor popular
    possible powerful predictable pretty proper public pure quick quiet rare raw ready real realistic recent
    regular ridiculous right rude sad safe same separate serious several sharp short silly similar simple single
    slow small smart smooth soft solid sorry special specific spectacular steady strange strong stunning stupid
    superb sure sweet tall terrible terrific thick thin tight tiny top total touching tough traditional true
    typical ugly ultimate unique unusual usual valuable various warm weak weird whole wide wild wonderful worse
    worst worth worthy wrong young
"""

_ADVERBS = """
    absolutely actually again ago almost already also altogether always anyway apart apparently away back badly
    barely basically bit certainly clearly completely consistently constantly currently deeply definitely dozen
    easily else entirely especially essentially eventually exactly extremely fairly far finally forever forward
    frankly frequently fully generally greatly half hardly highly honestly hopefully however hundred immediately
    incredibly indeed instead just kind kinda lately later literally maybe merely million mostly namely never
    nicely normally obviously occasionally often once otherwise particularly perfectly perhaps possibly
    practically previously primarily probably properly quickly quite rarely rather really relatively roughly
    sadly seemingly seriously simply slightly slowly so somehow sometimes somewhat soon sort still strongly
    suddenly supposedly surely surprisingly ten terribly thankfully thoroughly thousand today together too
    totally truly twice typically ultimately unfortunately usually utterly very virtually well yes yet
"""

_NOUNS = """
    age amount anybody anyone anything area aspect bunch case chance couple course day decade degree detail
    event everybody everyone everything example extent fact feeling finding folk group guy hour idea instance
    issue item job level line list majority man matter means minute moment month morning name nature night
    nobody none note nothing number opinion ounce pair part people person piece problem purpose question rate
    rating reason rest result review reviewer sense series side sign situation somebody someone something spot
    stuff style surface term thing time tomorrow tonight trouble truth type value way week while woman word
    world year yesterday
"""

_ITEMS = """
    book cd cinema dvd film flick movie picture product release star version video
"""

GENERAL_WORDS = frozenset(" ".join((_VERBS, _ADJECTIVES, _ADVERBS, _NOUNS, _ITEMS)).split())
"""Lemmas that may be in any review, whatever it is about: they name no aspect."""

_SUBJECTS = """
    backstory cameo cliche cliché complexity conclusion craft depiction depth gag genre irony nuance plotting
    premise resolution setting structure subtlety tale technique acting action actor actress adaptation
    animation art artwork atmosphere camera camerawork casting character characterization charm chemistry
    choreography cinematography climax comedy costume dialog dialogue direction director drama editing effect
    emotion ending energy ensemble epilogue fantasy fight finale gore horror humor humour imagery joke
    lighting makeup melodrama message metaphor mood music musical mystery narration narrative narrator pace
    pacing performance photography plot plotline portrayal protagonist romance satire scene scenery score
    screenplay script sentiment sequel set shot song soundtrack spectacle story storyline storytelling stunt
    subplot subtext suspense symbolism tension theme thrill tone twist villain violence visuals voice wit
    chapter illustration poem poetry prose translation verse album bass beat chorus drum guitar lyric melody
    rhythm tune vocal ambience campaign challenge combat control controller difficulty exploration framerate
    gameplay graphics interface loot map matchmaking mission multiplayer puzzle quest swordplay weapon
    assembly battery button cable charger comfort cushion delivery design display durability fabric fit flavor
    fragrance handle instruction keyboard lens manual material motor packaging price quality screen shipping
    size smell software sound speaker speed storage strap taste texture warranty weight zipper bathroom bed
    breakfast dinner location menu parking pool room service staff view
"""

SUBJECTS = frozenset(_SUBJECTS.split())
"""Lemmas for what reviews of films, books, music, games, goods and places judge: they may name an aspect, however often
they are written and praised."""
