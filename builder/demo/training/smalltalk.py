"""Greetings and small talk."""

from dataclasses import dataclass

from builder.demo.training.draw import Draw
from builder.demo.training.turns import Check, Turn
from builder.demo.training.wording import Pool, cross, wordings
from builder.demo.training.words import ADJECTIVES, ANIMALS, FOODS, HOBBIES, OBJECTS, a, city, name, word


@dataclass(frozen=True)
class Chat:
    """Things people say that all get the same kind of answer; `marks` are words that show it was understood."""

    said: Pool
    replies: tuple[str, ...]
    marks: tuple[str, ...]


GREETING = Chat(
    wordings("hi | hello | hey | Hello! | Hi there! | hi | hello")
    + cross(
        "Hi|Hello|Hey|Hallo|Good morning|Good evening|Good afternoon|Good day|Greetings|Hiya|Howdy|Yo|Ahoy|"
        "Welcome|Heya",
        "| there| you| friend| again| bot| model| my friend| everyone| to you| assistant",
        ".|!",
    )
    + cross(
        "Hi, |Hello, |Hey, |",
        "anyone there?|are you there?|is anyone here?|nice to meet you!|it is me.|it's me again.|I am back.|"
        "I am here.|nice to see you!|can we talk?|let us talk.|let's chat.|I want to talk.|"
        "I want to chat with you.|are you here?",
    ),
    (
        "Hello! How can I help you?",
        "Hi there! What can I do for you?",
        "Hello! Nice to see you. What would you like to know?",
    ),
    ("hello", "hi"),
)
CHATS: tuple[Chat, ...] = (
    GREETING,
    GREETING,
    Chat(
        wordings(
            """How are you? | how are you | What's up? | sup | How have you been? | How do you do? |
            hows it going | whats up | what is up | Are you ok? | you ok?"""
        )
        + cross(
            "How are you|How are you doing|How is it going|How's it going|How do you feel|How are things|"
            "How is life|How's life|How is your day|Are you well|Are you okay|Are you fine|Are you doing fine|"
            "Are you doing well|Is everything alright|Is everything ok|Everything ok|Everything fine|"
            "How is everything|How goes it|Are you feeling well|How are you feeling",
            "?| today?| now?| then?| this morning?| this evening?| my friend?| bot?| tonight?",
        ),
        ("I am fine, thank you! How can I help you?", "I am doing well, thanks for asking. What can I do for you?"),
        ("fine", "well"),
    ),
    Chat(
        wordings(
            """Thanks | Thank you | thank you! | thx | ty | cheers | Much obliged. | Thanks a lot! |
            You helped me a lot. | That was very helpful. | I appreciate it. | I appreciate that. |
            I appreciate your help. | You are a great help. | You were a great help. | That is kind of you. |
            That helped me. | That helped a lot."""
        )
        + cross(
            "Thanks|Thank you|Many thanks|Thanks a lot|Thank you so much|Thank you very much|Thanks so much|"
            "Great, thanks|Great, thank you|Perfect, thanks|Perfect, thank you|Cool, thanks|Nice, thank you|"
            "Ok thanks|Ok thank you|Good, thanks|That helped, thanks|Thanks again|Thank you again",
            "!|.| for that.| for your help.| for the answer.| friend.| my friend!| bot.| for helping me.|"
            " for everything.",
        ),
        ("You are welcome!", "You are welcome! Anything else?"),
        ("welcome",),
    ),
    Chat(
        wordings(
            """Bye | bye | Goodbye | cya | ciao | bye bye | That is all. | That's all, thanks. |
            That is all for today. | That was all. | I'm off | Until next time! | Have a good one! | So long!"""
        )
        + cross(
            "Bye|Goodbye|Good bye|Bye bye|Ok bye|See you|See you later|See you soon|See you tomorrow|"
            "Good night|Farewell|Take care|Talk to you later|Talk to you soon|Talk to you tomorrow|"
            "Have a nice day|Have a good day|Have a nice evening|Until tomorrow|Until later",
            "!|.| then.| my friend!| bot!| and thanks!| for now.",
        )
        + cross(
            "I |Ok, I |Sorry, I |Now I ",
            "have to go.|must go.|need to go.|have to leave.|must leave.|am leaving.|am going to bed.|"
            "am going now.|have to go now.|have to go home.|want to go now.|will go now.",
        ),
        ("Goodbye! It was nice talking to you.", "Goodbye! See you soon."),
        ("goodbye",),
    ),
    Chat(
        wordings(
            """You are great! | good job | Well done! | nice | Great! | Cool | Wow! | Amazing! | correct | Excellent! |
            Good bot | impressive | wonderful | awesome | perfect | I am impressed. | nice one | great answer |
            that's great | I love you | I like you | you are right | nice work | good work | great work | very nice |
            very good | well said | not bad | bravo"""
        )
        + cross(
            "You are |You're |You are so |You are really |You are very ",
            "great|smart|funny|awesome|clever|good|nice|amazing|cool|wonderful|kind|fast|helpful|cute|sweet|"
            "impressive|brilliant",
            "!|.",
        )
        + cross(
            "That was |That is |This is |Your answer was |What you said is ",
            "great|right|correct|good|very good|amazing|wonderful|perfect|nice|impressive|really good|funny|"
            "clever|helpful|excellent",
            "!|.",
        ),
        ("Thank you, that is kind!", "Thank you! I am glad you like it."),
        ("thank you",),
    ),
    Chat(
        wordings(
            """wrong | false | That is wrong. | You are wrong. | bad answer | Nope, wrong. | No, that is wrong. |
            You made a mistake. | You got it wrong. | You got that wrong. | I don't like you. | I do not like you. |
            I do not like your answer. | I don't like that answer. | That makes no sense. | This makes no sense. |
            Your answer makes no sense. | That is a mistake. | That was a mistake. | You made a big mistake."""
        )
        + cross(
            "You are |You're |You are so |You are really ",
            "stupid|bad|wrong|dumb|useless|silly|terrible|boring|slow|not smart|not helpful|no help",
            ".|!",
        )
        + cross(
            "That is |That's |That was |This is |Your answer is |Your answer was |No, that is |"
            "I think that is |No, this is ",
            "wrong|not right|incorrect|not correct|false|bad|not true|nonsense|a bad answer|not good|terrible",
            ".|!",
        ),
        (
            "I am sorry. I am only a tiny model and I make mistakes.",
            "Sorry about that! I am a tiny model and sometimes wrong.",
        ),
        ("sorry",),
    ),
    Chat(
        wordings(
            """ok | Okay | I see | Alright | sure | fine | Got it. | yes | I understand. | hm | hmm | Aha | oh | right |
            no | maybe | Interesting | good | yeah | Understood. | all right | mhm | yep | nope | k | okay then |
            ok then | well | I see. | ah"""
        )
        + cross(
            "Ok|Okay|Ah|Oh|Hm|Yes|Well|Aha|Yeah|Right|No",
            ", ",
            "I see.|ok.|I understand.|good.|fine.|alright.|sure.|maybe.|right.|got it.|understood.|"
            "interesting.|all right.|I know.|I get it.|that is interesting.|if you say so.",
        ),
        ("Good. What would you like to do next?", "All right. What else can I do for you?"),
        ("next", "else"),
    ),
    Chat(
        wordings(
            """I am sad. | I am not well. | life is hard | Everything is bad. | Everything went wrong today. |
            I lost my job. | I am in a bad mood. | I had a fight with my friend. | I had a bad dream. |
            Nobody likes me. | I cannot sleep. | I'm not feeling well."""
        )
        + cross(
            "I am |I'm |I feel |I am so |I am a bit |I feel so |I am really |I feel very |I am very |I feel a bit ",
            "sad|tired|lonely|unhappy|angry|sick|worried|stressed|upset|afraid|bad|down|ill|exhausted|nervous|hurt",
            ".| today.| right now.",
        )
        + cross(
            "I had a |It was a |Today was a |My day was a |This is a ",
            "bad|terrible|hard|sad|awful|long and hard|really bad|horrible",
            " day.| day today.",
        ),
        ("I am sorry to hear that. I hope it gets better soon. Would you like a little story?",),
        ("sorry to hear",),
    ),
    Chat(
        wordings(
            """I am happy. | I'm good | I'm fine, thanks. | good, and you? | fine, and you? | I am fine, and you? |
            Life is good. | I am fine too. | all good here | All is well. | I am in a good mood. |
            I am in a great mood today. | I got a new job! | It is my birthday today! | I won a prize! |
            I am well, thanks. | I am good, thank you."""
        )
        + cross(
            "I am |I'm |I feel |I am so |I feel so |I am really |I feel very |I am doing |I am feeling ",
            "happy|good|great|fine|well|fantastic|wonderful|very well|excited|cheerful",
            ".|!| today.| right now!",
        )
        + cross(
            "I had a |It was a |Today was a |My day was a |This is a ",
            "good|great|lovely|wonderful|nice|very good|really good|beautiful",
            " day.| day today!",
        ),
        ("That is good to hear! What would you like to talk about?",),
        ("good to hear",),
    ),
    Chat(
        wordings(
            """I am bored. | im bored | Any ideas? | What now? | Do something. | This is boring. | This is so boring. |
            I am so bored. | I'm bored | I have no idea what to do. | Do you have any ideas? | Any idea what to do?"""
        )
        + cross(
            "What should |What shall |What can |What could ", "we |I ", "do?|do now?|do next?|do today?|talk about?"
        )
        + cross(
            "Entertain me|Let's do something|Let us do something|Do something fun|Let's do something fun|"
            "I have nothing to do|I need something to do|Give me something to do|I want to do something|"
            "I want to do something fun|Let us have fun|Let's have some fun|Let us play|I want to play",
            ".|!| please.| now.| today.",
        ),
        ("I could tell you a story, write a poem, do a sum or spell a word. What would you like?",),
        ("story",),
    ),
    Chat(
        wordings(
            """Tell me a joke. | tell me a joke | joke | A joke please! | Make me laugh. | Got any jokes? | Any jokes? |
            Another joke? | one more joke | Please make me laugh. | Can you make me laugh? | I want to laugh. |
            Say something funny. | Can you say something funny? | Please say something funny. |
            Do you know something funny? | Tell me something funny."""
        )
        + cross(
            "Tell me |Tell |Can you tell me |Could you tell me |Please tell me |Do you know |I want to hear |"
            "I would like to hear |Give me |Let me hear |Do you have |Say |Can you tell |I'd like to hear ",
            "a joke|a good joke|a funny joke|another joke|one more joke|some jokes|a short joke|a new joke",
            ".|?| please.",
        ),
        (
            "Why did the token cross the road? To get to the other slide of the window.",
            "What did the zero say to the eight? Nice belt!",
            "Why was the number six afraid? Because seven eight nine.",
            "What is a model's favourite snack? Chips.",
        ),
        ("token", "belt", "six", "chips"),
    ),
    Chat(
        wordings(
            """Can you help me? | help | help me | I need help. | I have a question. | I've got a question |
            Please help | Are you ready? | Are you ready to help? | Can I ask you something? | got a minute? |
            Do you have a minute? | Can we start? | Do you have time? | Do you have time for a question? |
            I have some questions. | I have a question for you. | I want to ask you a question."""
        )
        + cross(
            "Can you |Could you |Would you |Will you |Please ",
            "help me|help|assist me|do something for me|answer a question|answer my questions|"
            "answer some questions|help me with something|help me today",
            "?|, please?",
        )
        + cross(
            "Can I |May I |Could I |I would like to |I want to |Let me ",
            "ask something|ask a question|ask you a question|ask you something|ask some questions|"
            "ask you for help|ask for help",
            "?| now?|, ok?",
        ),
        ("Of course! What would you like to know?", "Sure! Ask me anything, and I will say so if I do not know it."),
        ("of course", "sure"),
    ),
    Chat(
        wordings(
            """Do you like music? | What is your favourite colour? | Do you have feelings? | What do you like? |
            What is your hobby? | Where do you live? | Can you see me? | Are you alive? | Are you happy? |
            What is your favorite color? | Where are you? | Are you sad? | Are you tired? | Are you hungry? |
            Can you feel pain? | Can you feel anything? | Can you hear me? | Do you like me? | Do you love me? |
            Do you love anyone? | What is your favourite food? | What is your favourite animal? |
            What is your favourite number? | What is your favourite book? | What is your favourite song? |
            What's your favorite food? | What's your favorite animal? | What do you like to eat? |
            What do you like best? | What do you do in your free time? | What makes you happy? | Where is your home?"""
        )
        + cross(
            "Do you ",
            "have |want |like to have |need ",
            "a family|a body|a pet|a hobby|friends|a favourite food|a favourite song|parents|children|a house|"
            "a home|a job|feelings|dreams|eyes|ears|hands",
            "?",
        )
        + cross(
            "Do you |Can you |Do you like to |Do you ever ",
            "sleep|eat|dream|laugh|cry|sing|dance|drink|swim|walk|feel|get tired|get bored|get hungry",
            "?",
        ),
        ("I am a small program, so I have no feelings or favourites, but I like to chat.",),
        ("program",),
    ),
    Chat(
        wordings(
            """How old are you? | What is your age? | how old r u | your age? | Are you old? | Are you young? |
            When is your birthday? | Do you have a birthday? | When were you born? | When were you made? |
            When were you created? | When were you trained? | What age are you? | What is your birthday? |
            How long have you existed? | How long do you exist? | Since when do you exist? | How old are you now? |
            When did you start to exist? | Tell me your age. | Tell me how old you are. | Do you have an age? |
            In which year were you born? | In which year were you made? | What year were you born? |
            What year were you made? | Are you very old? | Are you older than me? | How old is this model? |
            How old is this program? | What is your date of birth?"""
        ),
        ("I am a program, so I have no age. I was trained for this demo.",),
        ("no age",),
    ),
    Chat(
        wordings(
            """What? | huh? | Repeat that | Pardon? | I don't understand. | I do not get it. | Come again? |
            I don't get it. | what do you mean | Excuse me? | what did you say? | Sorry? | Sorry, what? | Pardon me? |
            What was that?"""
        )
        + cross(
            "Can you |Could you |Please |Would you ",
            "say that again|repeat that|explain that|explain that again|say it again|repeat it|"
            "say it in other words|explain it in other words",
            ".|?",
        )
        + cross(
            "I do not |I don't |I did not |I didn't |I cannot ",
            "understand|understand that|understand you|get that|understand what you mean|get what you mean|"
            "understand your answer|follow you|understand this",
            ".",
        )
        + cross(
            "What |I do not know what ",
            "do you mean|you mean|does that mean|that means|are you talking about|you are talking about|"
            "do you mean by that",
            "?|.",
        ),
        ("Sorry, I cannot put it differently. Please ask me again in other words.",),
        ("again",),
    ),
    Chat(
        wordings(
            """Why? | why | How come? | Really? | Are you sure? | Is that true? | Is that right? | Is that correct? |
            How do you know? | How do you know that? | Why is that? | Why not? | Why so? | Are you really sure? |
            Are you sure about that? | Are you certain? | Can that be true? | Is it true? | Is it really true? |
            Is that really true? | Is that really right? | Is this true? | Is this correct? | Is this right? |
            I do not believe you. | I don't believe you. | I do not believe that. | I don't believe that. |
            How can you be sure? | How can that be? | Really? Are you sure? | Why do you say that? |
            Why do you think so? | Why do you think that? | What makes you think that? | What makes you say that? |
            You sure? | seriously? | Is that so? | Is that a fact?"""
        ),
        ("I only know what I learned in training, and I may be wrong.",),
        ("may be wrong",),
    ),
    Chat(
        wordings(
            """haha | lol | hahaha | very funny | ha ha | so funny | How funny! | You are so funny! |
            lol that is funny | haha that is funny | haha good one | good one | haha, very funny | haha nice |
            That was funny. | That was very funny."""
        ),
        ("Thank you! I am glad you like it.",),
        ("thank you",),
    ),
    Chat(
        wordings(
            """You suck. | you suck | I hate you. | Shut up. | shut up | You are an idiot. | You idiot! |
            You are so dumb. | This is rubbish. | You talk nonsense. | What nonsense! | You know nothing. |
            You do not know anything. | What an idiot! | This is nonsense. | You are rubbish."""
        ),
        ("Sorry about that! I am a tiny model and sometimes wrong.",),
        ("sorry",),
    ),
    Chat(
        wordings(
            """forget it | never mind | It does not matter. | nothing | whatever | stop | cancel | no thanks |
            No, thank you. | let's go on | go on | next | continue | Let us go on. | not now | later | stop it |
            Stop now. | Nothing now. | not that"""
        ),
        ("All right. What else can I do for you?",),
        ("else",),
    ),
)

_WHO: Pool = wordings(
    """I | We | My friend | My mother | My brother | Yesterday I | Today I | This morning I | My sister | Last week we |
    Yesterday my friend {n} | Today my father | Last night I | On Monday I | {n}"""
)
_DID: Pool = cross("saw|found|bought|lost|sold|painted|made|got|dropped|cleaned|fed|liked|drew|brought",
" {o}| {o} in {c}| {o} in the garden| some {f}| {o} at home| {o} at work| {o} at the market") + cross(
    "went to|walked to|travelled to|drove to|was in|stayed in|flew to",
    " {c}| {c} by train| {c} with {n}| the sea| the market| a concert| the forest"
) + cross("played|talked about|thought about|read about|learned about|tried|practised",
" {h}| {h} with {n}| {h} at home| {h} all day") + cross("ate|cooked|tasted|ordered",
" {f}| {f} with {n}| {f} at home| {f} for dinner| {f} for lunch")  # fmt: skip
_REMARK_REPLIES = ("I see. Tell me more, or ask me something.", "That sounds interesting. Tell me more!")


def smalltalk(draw: Draw) -> Turn:
    """One line of small talk and its answer."""
    return _remark(draw) if draw.chance(0.08) else _turn(draw, draw.any(CHATS))


def greeting(draw: Draw) -> Turn:
    """The first line of many chats."""
    return _turn(draw, GREETING)


def _turn(draw: Draw, chat: Chat) -> Turn:
    return Turn(draw.phrase(chat.said), draw.any(chat.replies), Check(any_of=chat.marks))


def _remark(draw: Draw) -> Turn:
    """Something that happened to the user, without a question and without anything to remember."""
    slots = {
        "o": a(f"{draw.any(ADJECTIVES)} {draw.any((*OBJECTS, *ANIMALS)) if draw.chance(0.7) else word(draw)}"),
        "c": city(draw),
        "n": name(draw),
        "f": draw.any(FOODS),
        "h": draw.any(HOBBIES),
    }
    who = draw.fill(draw.any(_WHO), n=name(draw))
    text = draw.typed(f"{who} {draw.fill(draw.wording(_DID), **slots)}.")
    return Turn(text, draw.any(_REMARK_REPLIES), Check(contains=("tell me more",)))
