"""English words in pairs, classes and sets of the same meaning."""

from __future__ import annotations

from typing import Final

__all__ = ["ANTONYMS", "CLASSES", "LOOSE_CLASSES", "NEGATABLE", "SYNONYMS"]

_Pairs = tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]


def _pairs(text: str) -> _Pairs:
    """Read lines of ``word word : word word``."""
    found = []
    for line in text.strip().splitlines():
        left, _, right = line.partition(":")
        found.append((tuple(left.split()), tuple(right.split())))
    return tuple(found)


def _members(text: str) -> tuple[tuple[str, ...], ...]:
    """Read members that are divided by blanks; ``a=b`` are two names of one, ``a_b`` two words."""
    return tuple(
        tuple(name.replace("_", " ") for name in member.split("=")) for member in text.split()
    )


ANTONYMS: Final[_Pairs] = _pairs("""
open reopen unlock : close shut lock
enable activate : disable deactivate
enabled active : disabled inactive
on : off
start begin launch commence initiate : stop end finish terminate halt
start begin open : finish complete
increase raise grow rise climb grew gain upscale : decrease reduce lower shrink fall drop decline
maximize maximise : minimize minimise
maximum max most highest greatest largest biggest : minimum min least lowest smallest fewest
more : less fewer
best better : worst worse
before prior earlier preceding : after following later subsequent
first earliest initial : last latest final
buy purchase acquire : sell
income revenue earnings profit : expense cost loss spending
debit : credit
deposit : withdraw withdrawal
borrow : lend
add insert attach include append : remove delete exclude detach omit
create make build generate : delete destroy drop
install : uninstall
import : export
upload : download
encrypt : decrypt
encode : decode
encoding : decoding
compress zip : decompress unzip extract
serialize : deserialize
push : pull
commit : rollback revert
merge join combine : split separate divide
connect attach : disconnect detach
subscribe : unsubscribe
follow : unfollow
like : dislike
love : hate
allow permit grant enable whitelist : deny forbid block revoke prohibit ban blacklist prevent
accept approve : reject decline refuse
send : receive get
give : take
public : private
internal : external
inside indoor : outside outdoor
inbound incoming ingress : outbound outgoing egress
input : output
read : write
reader : writer
show display reveal : hide conceal
visible : invisible hidden
expand : collapse
mute : unmute
pause : resume unpause
up : down
upgrade : downgrade
top : bottom
upper uppercase : lower lowercase
above : below beneath
left : right
front : back rear
forward : backward backwards
north northern : south southern
east eastern : west western
high tall : low short
long : short
large big huge : small little tiny
wide : narrow
thick : thin
fast quick rapid quickly : slow slowly
heavy : light
hot warm : cold cool
hard difficult : easy simple
hard firm : soft
strong : weak
rich wealthy : poor
old : new
old elderly : young
modern : ancient
early : late
full : empty
full : partial
wet : dry
dark : light bright
loud noisy : quiet silent
clean : dirty
safe secure : dangerous unsafe risky insecure
safe harmless : harmful toxic poisonous
true : false
correct right : wrong incorrect
valid : invalid
legal : illegal
possible : impossible
success succeed successful pass : fail failure failed
win victory : lose defeat loss
advantage pro benefit strength upside : disadvantage con drawback weakness downside
positive : negative
happy : sad unhappy
good : bad
alive living : dead
birth born : death die died
arrive arrival : depart departure leave
enter entry entrance : exit leave
login log-in signin : logout log-out signout
ascending asc : descending desc
vertical portrait : horizontal landscape
synchronous sync : asynchronous async
static : dynamic
mutable : immutable
optional : required mandatory compulsory
manual manually : automatic automatically automated
local onpremise : remote cloud
online : offline
client : server
frontend front-end : backend back-end
parent : child
ancestor : descendant
master primary main : slave secondary replica
teacher : student
doctor : patient
employer : employee
buyer customer : seller vendor
landlord : tenant
lender : borrower
host : guest
attack offense : defense defend
war : peace
friend : enemy
ally : enemy
male man boy men : female woman girl women
husband : wife
mother mom : father dad
brother : sister
son : daughter
uncle : aunt
king : queen
day daytime : night nighttime
today : tomorrow
sunrise : sunset
odd : even
prime : composite
add addition plus sum : subtract subtraction minus
multiply multiplication times : divide division
numerator : denominator
integer : float decimal
singular : plural
gross : net
wholesale : retail
lossy : lossless
hardware : software
hire : fire dismiss
hire recruit : resign quit
rent lease : buy own
free : paid
free : busy
cheap cheapest inexpensive : expensive costly dearest
import imports : export exports
supply : demand
asset : liability
bull bullish : bear bearish
long-term longterm : short-term shortterm
domestic : foreign international
national : international
urban : rural
theory theoretical : practice practical
qualitative : quantitative
introvert : extrovert
acid acidic : alkaline base basic
predator : prey
proton : electron
freeze : thaw melt unfreeze
freeze : boil
inhale : exhale
accelerate : brake decelerate
attach : detach
lock : unlock
mount : unmount
load : unload
pack : unpack
wrap : unwrap
tie : untie
dress : undress
do : undo
undo : redo
archive : unarchive restore
hide : unhide
block : unblock
ban : unban
register : unregister deregister
select check : deselect unselect uncheck
link : unlink
assign : unassign
appear : disappear vanish
agree : disagree
trust : distrust mistrust
trusted : untrusted
known : unknown
verified : unverified
paid : unpaid
read : unread
signed : unsigned
structured : unstructured
sorted : unsorted
stable : unstable
same identical equal : different distinct
together : apart
always : never
everything : nothing
everyone everybody : nobody
with including : without excluding except
since : until
minor : major
junior : senior
lead : follow
lead : lag
save keep retain : discard delete
spend : save
spend : earn
remember : forget
ask question : answer reply
cause : effect
cause : prevent
cause : cure treat
gain : lose
sink : float
swim : drown
push : pull
lift : lower
tighten : loosen
strengthen : weaken
widen : narrow
lengthen : shorten
heat warm : cool chill
brighten : dim
promote promotion : demote demotion
encourage : discourage
include inclusive : exclude exclusive
inclusive : exclusive
implicit : explicit
inner : outer
interior : exterior
import : dump
backup : restore
lend : borrow
credit : cash
gzip : gunzip
opt-in : opt-out
whitelist allowlist : blacklist denylist blocklist
vegan : meat
shallow : deep
sharp : blunt
sweet : sour bitter
raw : cooked
fresh : stale
fiction : nonfiction
""")

NEGATABLE: Final = frozenset(
    [
        "available",
        "authorized",
        "authorised",
        "authenticated",
        "allowed",
        "aware",
        "certain",
        "clear",
        "comfortable",
        "common",
        "complete",
        "compatible",
        "consistent",
        "correct",
        "dependent",
        "direct",
        "equal",
        "expected",
        "fair",
        "familiar",
        "finished",
        "formal",
        "fortunate",
        "happy",
        "healthy",
        "helpful",
        "important",
        "interested",
        "known",
        "likely",
        "limited",
        "lucky",
        "mutable",
        "necessary",
        "official",
        "paid",
        "pleasant",
        "popular",
        "possible",
        "practical",
        "predictable",
        "productive",
        "profitable",
        "proper",
        "published",
        "qualified",
        "ready",
        "real",
        "reasonable",
        "reliable",
        "resolved",
        "responsive",
        "safe",
        "satisfied",
        "secure",
        "signed",
        "sorted",
        "stable",
        "structured",
        "successful",
        "supported",
        "sure",
        "tested",
        "trusted",
        "usual",
        "valid",
        "verified",
        "visible",
        "wanted",
        "willing",
        "active",
        "accurate",
        "adequate",
        "appropriate",
        "capable",
        "effective",
        "efficient",
        "finite",
        "legal",
        "logical",
        "mature",
        "measurable",
        "patient",
        "perfect",
        "polite",
        "moral",
        "regular",
        "relevant",
        "replaceable",
        "responsible",
        "reversible",
        "rational",
        "honest",
        "loyal",
        "satisfied",
        "connected",
        "enabled",
        "similar",
        "obedient",
        "approve",
        "agree",
        "appear",
        "connect",
        "allow",
        "trust",
        "interpret",
        "understand",
        "use",
        "compliant",
        "blocking",
        "empty",
        "existent",
        "fatal",
        "linear",
        "negative",
        "null",
        "profit",
        "recursive",
        "refundable",
        "standard",
        "technical",
        "toxic",
        "trivial",
        "unique",
        "verbal",
        "zero",
        "encrypted",
        "changed",
        "documented",
        "initialized",
        "defined",
        "modified",
        "named",
        "used",
        "assigned",
        "committed",
    ]
)

_COUNTRIES = _members(
    "afghanistan albania algeria argentina armenia australia=australian austria=austrian "
    "azerbaijan bangladesh belarus belgium=belgian bolivia bosnia botswana brazil=brazilian "
    "bulgaria=bulgarian cambodia cameroon canada=canadian chile=chilean china=chinese "
    "colombia=colombian croatia=croatian cuba=cuban cyprus czechia=czech denmark=danish ecuador "
    "egypt=egyptian estonia=estonian ethiopia finland=finnish france=french georgia "
    "germany=german ghana greece=greek guatemala haiti honduras hungary=hungarian "
    "iceland=icelandic india=indian indonesia=indonesian iran=iranian iraq=iraqi "
    "ireland=irish israel=israeli italy=italian jamaica japan=japanese jordan kazakhstan "
    "kenya=kenyan kuwait latvia=latvian lebanon libya lithuania=lithuanian luxembourg "
    "malaysia=malaysian malta mexico=mexican moldova mongolia montenegro morocco=moroccan nepal "
    "netherlands=dutch=holland new_zealand nicaragua nigeria=nigerian norway=norwegian "
    "pakistan=pakistani panama paraguay peru=peruvian philippines=filipino poland=polish "
    "portugal=portuguese qatar romania=romanian russia=russian rwanda saudi_arabia=saudi "
    "scotland=scottish senegal serbia=serbian singapore slovakia=slovak slovenia=slovenian "
    "somalia south_africa=south_african south_korea=korean north_korea spain=spanish sri_lanka "
    "sudan sweden=swedish switzerland=swiss syria=syrian taiwan=taiwanese tanzania "
    "thailand=thai tunisia turkey=turkish uganda ukraine=ukrainian uruguay "
    "united_states=usa=american united_kingdom=uk=british=britain=great_britain "
    "england=english venezuela vietnam=vietnamese wales=welsh yemen zambia zimbabwe "
    "hungarian latin arabic hebrew hindi urdu bengali swahili tamil europe=european "
    "africa=african asia=asian antarctica south_america north_america"
)
_CITIES = _members(
    "amsterdam athens atlanta bangkok barcelona beijing berlin boston brussels bucharest "
    "budapest cairo chicago copenhagen dallas delhi denver detroit dubai dublin edinburgh "
    "florence frankfurt geneva glasgow hamburg helsinki hong_kong houston istanbul jakarta "
    "johannesburg karachi kyiv=kiev lagos lima lisbon liverpool london los_angeles lyon madrid "
    "manchester manila marseille melbourne miami milan montreal moscow mumbai munich nairobi "
    "naples new_york osaka oslo ottawa paris philadelphia phoenix porto prague riga rome "
    "san_francisco santiago sao_paulo seattle seoul shanghai sofia stockholm sydney taipei "
    "tallinn tehran tel_aviv tokyo toronto vancouver venice vienna vilnius warsaw washington "
    "zagreb zurich texas california florida ohio arizona nevada oregon alaska hawaii colorado "
    "virginia utah kansas iowa maine georgia illinois michigan bavaria quebec ontario"
)
_LANGUAGES = _members(
    "python java javascript=js typescript=ts golang rust ruby php perl c++=cpp c#=csharp f# "
    "scala kotlin swift haskell erlang elixir clojure lua matlab fortran cobol dart julia "
    "bash powershell sql graphql html css sass r objective-c ocaml pascal assembly "
    "node=nodejs=node.js deno bun"
)
_PRODUCTS = _members(
    "postgres=postgresql mysql mariadb sqlite oracle mongodb=mongo redis valkey cassandra "
    "dynamodb elasticsearch opensearch snowflake bigquery clickhouse kafka rabbitmq "
    "aws=amazon azure gcp=google_cloud heroku vercel netlify cloudflare digitalocean "
    "windows macos=mac linux ubuntu debian fedora android ios iphone ipad chrome firefox safari "
    "edge opera docker podman kubernetes=k8s terraform ansible github gitlab bitbucket jira "
    "confluence slack discord zoom teams whatsapp telegram signal skype gmail outlook "
    "react angular vue svelte django flask fastapi rails spring laravel express numpy pandas "
    "polars tensorflow pytorch excel word powerpoint sheets docs notion trello asana "
    "salesforce hubspot zendesk shopify stripe paypal venmo visa mastercard amex "
    "facebook instagram twitter linkedin tiktok youtube netflix spotify uber lyft airbnb "
    "microsoft google apple meta tesla nvidia intel amd samsung sony openai anthropic "
    "chatgpt claude gemini mistral llama bitcoin ethereum vim emacs nginx apache npm yarn pnpm "
    "pip poetry git svn ec2 s3 lambda sqs sns"
)

CLASSES: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "country": _COUNTRIES,
    "city": _CITIES,
    "programming language": _LANGUAGES,
    "product": _PRODUCTS,
    "format": _members(
        "csv json xml yaml=yml toml pdf docx=doc xlsx=xls html markdown=md txt parquet avro png "
        "jpg=jpeg gif svg webp mp3 mp4 wav avi mov zip tar rar gz ics vcf protobuf"
    ),
    "colour": _members(
        "red blue green yellow orange purple violet pink brown black white grey=gray cyan "
        "magenta beige turquoise"
    ),
    "planet": _members("mercury venus earth mars jupiter saturn uranus neptune pluto moon sun"),
    "element": _members(
        "hydrogen helium carbon nitrogen oxygen sodium potassium calcium iron copper zinc silver "
        "gold lead mercury uranium aluminium=aluminum silicon phosphorus chlorine lithium "
        "platinum nickel tin sulfur=sulphur"
    ),
    "animal": _members(
        "cat=kitten dog=puppy horse cow pig sheep goat chicken duck rabbit mouse rat lion tiger "
        "bear wolf fox elephant giraffe monkey whale shark dolphin snake frog turtle parrot "
        "hamster eagle owl penguin bee ant spider salmon"
    ),
    "food": _members(
        "rice pasta bread potato tomato onion garlic beef pork lamb tofu egg milk cheese butter "
        "apple banana lemon lime strawberry cherry grape mango almond peanut coffee tea beer "
        "wine water juice sugar salt pepper honey flour quinoa oat"
    ),
    "sport": _members(
        "football=soccer basketball baseball tennis golf hockey rugby cricket volleyball "
        "swimming boxing cycling skiing"
    ),
    "organ": _members(
        "heart liver kidney lung brain stomach skin eye ear nose tooth bone knee "
        "shoulder elbow ankle wrist hip spine"
    ),
    "method": _members("get_request post_request put_request delete_request patch_request"),
    "role": _members(
        "admin=administrator owner editor viewer moderator guest manager member contributor"
    ),
    "plan": _members("starter basic standard premium=pro enterprise business trial"),
    "interval": _members("hourly daily weekly biweekly monthly quarterly yearly=annually=annual"),
    "size": _members("small medium large"),
    "channel": _members("email=mail=e-mail sms phone fax"),
    "card": _members("credit_card debit_card gift_card"),
    "field": _members("username password address nickname avatar"),
    "place": _members("bathroom kitchen bedroom garage garden"),
    "device": _members("laptop desktop tablet smartphone=mobile printer keyboard monitor router"),
    "vitamin": _members("vitamin_a vitamin_b vitamin_c vitamin_d vitamin_e vitamin_k"),
    "protocol": _members(
        "http https ftp sftp ssh telnet tcp udp smtp imap pop3 websocket=ws sse grpc rest mqtt amqp"
    ),
    "structure": _members("list tuple dictionary=dict array stack queue heap tree graph"),
    "statistic": _members("mean=average median mode variance"),
    "shape": _members("circle square triangle rectangle cylinder sphere cube cone hexagon"),
    "law": _members("gdpr ccpa hipaa sox pci"),
}

#: What a text may leave out without meaning something else; it is only not another one.
LOOSE_CLASSES: Final = frozenset(
    [
        "role",
        "plan",
        "size",
        "channel",
        "field",
        "place",
        "device",
        "structure",
        "organ",
        "food",
        "colour",
        "interval",
    ]
)

SYNONYMS: Final[tuple[tuple[str, ...], ...]] = tuple(
    tuple(line.split())
    for line in """
reset change recover update modify edit alter adjust
cancel terminate stop end quit discontinue
subscription plan membership
delete remove erase erasing
create make set add open build generate
show display see view list get check look
fix solve resolve repair troubleshoot debug
buy purchase order
begin start
big large
quick fast
error problem issue bug
mail email e-mail
picture photo image avatar
phone telephone
car automobile
movie film
price cost fee charge
company firm business
mean meaning definition define stand
difference differ distinguish distinction compare
convert turn transform change translate
install setup
explain describe clarify
save store keep
document file
refund reimbursement
invoice bill receipt
login log sign signin
log sign
account profile
app application program
main primary key chief
big major
reason cause
reduce lower decrease cut
increase raise boost
improve better enhance
choose pick select
method function
send deliver submit
city town
doctor physician
begin commence
connect link join
allow permit
find locate search look
country nation
lawyer attorney
contact reach
support help
speak talk
job position role
vacation holiday leave
pay payment
teammate colleague coworker
invite add
run execute
sort order
word term
way method approach
biggest largest
kid child
correct right
shop store
""".strip().splitlines()
)
